"""ONNX file -> engine, with TensorRT (on a GPU) or TensorRT-RTX (ahead of time, no GPU needed)."""

import hashlib
import importlib
import json
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from pumer_convert.checkpoint.write import output_file
from pumer_convert.errors import InputError, MissingDependencyError, nearest
from pumer_convert.recipe import Profile

log = logging.getLogger("pumer_convert.tensorrt")

MODULES = {"tensorrt": ("tensorrt", "trt"), "tensorrt-rtx": ("tensorrt_rtx", "rtx")}  # and the extra that installs it
RTX_DEFAULT = "8.0, 8.6, 8.9, 12.0 and later"  # where an engine without a target runs, by NVIDIA's documentation
GPU = (Path("/dev/nvidia0"), Path("/dev/nvidiactl"), Path("/proc/driver/nvidia/version"), Path("/dev/dxg"))
NO_GPU = "CUDA driver version is insufficient"  # said beside every true error where there is no GPU

Shapes = dict[str, list[list[int]]]
"""Input name -> its [smallest, fastest, largest] shape."""
Progress = Callable[[str, int, int], None]
"""Called with a phase, the step that it finished and how many it has; an exception in it stops the build."""


@dataclass(frozen=True)
class EngineSettings:
    """How to build: flavour "auto", "tensorrt" or "tensorrt-rtx"; one optimisation profile per `profiles`.

    `compute_capabilities` such as ("8.6", "8.9") are the targets of an RTX engine. The optimisation level is 0 to 5.
    """

    flavour: str = "auto"
    profiles: tuple[Profile, ...] = (Profile(),)
    compute_capabilities: tuple[str, ...] = ()
    workspace_gib: float | None = None
    optimization_level: int | None = None


def build_engine(
    onnx_path: Path | str,
    out: Path | str | None = None,
    settings: EngineSettings | None = None,
    *,
    sidecar: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Build an engine from an ONNX file and write it to `out` (default: beside it, .engine) with a JSON sidecar.

    Strongly typed. Gives the sidecar, which also holds all of `sidecar`. Raises MissingDependencyError for want of
    the package or its GPU, InputError for a graph or a profile that cannot be built; no file is left then.
    """
    settings = settings or EngineSettings()
    onnx_path = Path(onnx_path)
    out = Path(out or onnx_path.with_suffix(".engine"))
    inputs, outputs = _signature(onnx_path)
    profiles = [_profile(inputs, profile) for profile in settings.profiles]
    if not profiles:
        raise InputError("an engine needs at least one profile of batch sizes and text lengths.")
    flavour, trt = _load(settings)
    notes = out.with_name(out.name + ".json")
    if notes.exists() and not overwrite:
        raise InputError(f"{notes}: exists already; use --overwrite.")
    with output_file(out, overwrite) as target:
        target.write_bytes(_build(trt, flavour, onnx_path, profiles, settings, progress))
        record = {
            **(sidecar or {}),
            "format": 1,
            "flavour": flavour,
            "tensorrt_version": trt.__version__,
            "compute_capabilities": list(settings.compute_capabilities) or _runs_on(flavour),
            "inputs": inputs,
            "outputs": outputs,
            "profiles": profiles,
            "onnx": {"file": onnx_path.name, "sha256": _sha256(onnx_path)},
            "engine": {"file": out.name, "sha256": _sha256(target), "bytes": target.stat().st_size},
        }
        target.with_name(notes.name).write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    return record


def _import(name: str) -> Any:
    with warnings.catch_warnings():
        # Bindings made by SWIG, and older ones under a newer Python, warn about themselves while they load.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        return importlib.import_module(name)


def _load(settings: EngineSettings) -> tuple[str, Any]:
    gpu = any(path.exists() for path in GPU)
    if (flavour := settings.flavour) not in ("auto", *MODULES):
        raise InputError(f"there is no engine flavour '{flavour}'.{nearest(flavour, ('auto', *MODULES))}")
    if flavour == "auto":
        flavour = "tensorrt-rtx"
        if gpu and not settings.compute_capabilities:
            try:
                return "tensorrt", _import("tensorrt")
            except (ImportError, OSError) as error:
                log.info("tensorrt cannot be used (%s), so tensorrt-rtx is", error)
    name, extra = MODULES[flavour]
    try:
        trt = _import(name)
    except (ImportError, OSError) as error:
        why = f"building an engine needs {flavour} ({' '.join(str(error).split())})"
        raise MissingDependencyError(f"{why}; install it with: pip install 'pumer-convert[{extra}]'") from None
    if flavour == "tensorrt" and not gpu:
        raise MissingDependencyError("TensorRT builds on the GPU it is for, and none is here; use tensorrt-rtx.")
    if settings.compute_capabilities and flavour == "tensorrt":
        raise InputError("TensorRT builds for the GPU it runs on; compute capabilities are for tensorrt-rtx.")
    return flavour, trt


def _runs_on(flavour: str) -> list[str] | str:
    if flavour == "tensorrt-rtx":
        return RTX_DEFAULT
    import torch

    return ["{}.{}".format(*torch.cuda.get_device_capability())] if torch.cuda.is_available() else []


def _build(
    trt: Any, flavour: str, path: Path, profiles: list[Shapes], settings: EngineSettings, progress: Progress | None
) -> Any:
    logger = _logger(trt)
    try:
        builder = trt.Builder(logger)
    except (TypeError, RuntimeError):
        raise MissingDependencyError(f"{flavour} cannot start its builder: {logger.why()}.") from None
    config = builder.create_builder_config()
    _configure(trt, config, settings)
    # From TensorRT 11 on every network is strongly typed and the flag is gone.
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        nodes = [_refused(parser.get_error(i), path) for i in range(parser.num_errors)] or [logger.why()]
        raise InputError(f"{path}: the parser refuses {len(nodes)} node{'s'[: len(nodes) - 1]}: {'; '.join(nodes)}")
    for ranges in profiles:
        shapes = builder.create_optimization_profile()
        for name, sides in ranges.items():
            shapes.set_shape(name, *map(tuple, sides))
        if config.add_optimization_profile(shapes) < 0:
            raise InputError(f"{flavour} refuses the profile {ranges}: {logger.why()}")
    monitor = config.progress_monitor = _monitor(trt, progress)
    engine = builder.build_serialized_network(network, config)
    if monitor.stopped is not None:
        raise monitor.stopped
    if engine is None:
        raise InputError(f"{path}: {flavour} could not build it: {logger.why()}")
    return engine


def _refused(error: Any, path: Path) -> str:
    """A parser error as "node_name (OpType): why"."""
    import onnx

    name, kind = error.node_name(), error.node_operator()
    if not name:
        # The refusal of an attribute names neither; the function that refused is named after the operator.
        kind = kind or error.func().removeprefix("import")
        model = onnx.load(str(path), load_external_data=False)
        nodes = [(node, "") for node in model.graph.node]
        nodes += [(node, f"{f.domain}::{f.name}/") for f in model.functions for node in f.node]
        names = [within + (node.name or node.output[0]) for node, within in nodes if node.op_type == kind]
        name = "one of " * (len(names) > 1) + ", ".join(names[:5] + ["..."] * (len(names) > 5)) or "unnamed"
    return f"{name} ({kind}): {_sentence(error.desc())}"


def _sentence(message: str) -> str:
    """TensorRT's message on one line, without what it always says where there is no GPU."""
    return " ".join(" ".join(line for line in message.splitlines() if NO_GPU not in line).split())


def _configure(trt: Any, config: Any, settings: EngineSettings) -> None:
    if settings.workspace_gib is not None:
        if not settings.workspace_gib > 0:
            raise InputError(f"a workspace of {settings.workspace_gib} GiB is none; give more than 0 or leave it out.")
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(settings.workspace_gib * 2**30))
    if settings.optimization_level is not None:
        if settings.optimization_level not in range(6):
            raise InputError(f"there is no optimisation level {settings.optimization_level}; they are 0 to 5.")
        config.builder_optimization_level = settings.optimization_level
    if not (wanted := list(dict.fromkeys(settings.compute_capabilities))):
        return
    members = trt.ComputeCapability.__members__.items()
    offered = {f"{name[2:-1]}.{name[-1]}": value for name, value in members if name.startswith("SM")}
    config.num_compute_capabilities = len(wanted)
    for i, capability in enumerate(wanted):
        if capability not in offered:
            known = ", ".join(sorted(offered, key=lambda text: tuple(map(int, text.split(".")))))
            raise InputError(f"compute capability '{capability}' is not a target here; offered: {known}.")
        config.set_compute_capability(offered[capability], i)


def _signature(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Inputs and outputs: name, dtype, shape with the names of dynamic sides."""
    import onnx

    if not path.is_file():
        raise InputError(f"{path}: there is no such ONNX file.")
    try:
        model = onnx.load(str(path), load_external_data=False)
        if not (broken := _broken_weights(path, model.graph.initializer)):
            onnx.checker.check_model(str(path))
    except Exception as error:
        first = [*str(error).strip().splitlines(), type(error).__name__][0]
        raise InputError(f"{path}: not a whole ONNX model ({first}).") from None
    if broken:
        raise InputError(broken)

    def entry(value: Any) -> dict[str, Any]:
        kind = value.type.tensor_type
        shape = [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in kind.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        return {"name": value.name, "dtype": dtype, "shape": shape}

    weights = {tensor.name for tensor in model.graph.initializer}
    return [entry(v) for v in model.graph.input if v.name not in weights], [entry(v) for v in model.graph.output]


def _broken_weights(path: Path, tensors: Any) -> str | None:
    """What to tell when a file of weights beside the model is missing or shorter than its tensors need."""
    from onnx import TensorProto, helper

    for tensor in (t for t in tensors if t.data_location == TensorProto.EXTERNAL):
        place = {item.key: item.value for item in tensor.external_data}
        if not (file := path.parent / place["location"]).is_file():
            return f"{path}: its weights file '{place['location']}' is missing; it belongs beside it."
        size = prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        need = int(place.get("offset", 0)) + int(place.get("length") or size)
        if file.stat().st_size < need:
            return f"{file}: not whole; '{tensor.name}' ends at byte {need}, the file before it."
    return None


def _profile(inputs: list[dict[str, Any]], profile: Profile) -> Shapes:
    sides = {"batch": profile.batch, "text": profile.text}
    for side, sizes in sides.items():
        if len(sizes) != 3 or not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
            raise InputError(f"profile: {side} must be [smallest, fastest, largest], rising from 1, not {list(sizes)}.")
    for entry in inputs:
        unknown = [side for side in entry["shape"] if isinstance(side, str) and side not in sides]
        if unknown:
            raise InputError(f"input '{entry['name']}' has a dynamic side '{unknown[0]}'; only batch and text may be.")
    return {e["name"]: [[sides[s][i] if s in sides else s for s in e["shape"]] for i in range(3)] for e in inputs}


def _logger(trt: Any) -> Any:
    errors: list[str] = []

    class Logger(trt.ILogger):  # type: ignore[misc]
        """TensorRT's talk goes to the log; its errors (a good build has some too) are kept for the user's sentence."""

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                errors.append(_sentence(message))
            quiet = severity in (trt.ILogger.INFO, trt.ILogger.VERBOSE)
            log.log(logging.DEBUG if quiet else logging.INFO, "%s", message)

        def why(self) -> str:
            return "; ".join([*dict.fromkeys(filter(None, errors))][-2:]) or "it gave no reason"

    return Logger()


def _monitor(trt: Any, progress: Progress | None) -> Any:
    steps: dict[str, int] = {}

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Hands progress on; an exception in the callback (Ctrl-C) stops the build and is raised after it."""

        stopped: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            steps[phase_name] = num_steps

        def phase_finish(self, phase_name: str) -> None:
            steps.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                if progress is not None and self.stopped is None:
                    progress(phase_name, step, steps.get(phase_name, 0))
            except BaseException as error:
                self.stopped = error
            return self.stopped is None

    return Monitor()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
