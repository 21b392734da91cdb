"""ONNX file -> engine, with TensorRT (on a GPU) or TensorRT-RTX (ahead of time, no GPU needed)."""

import hashlib
import importlib
import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pumer_convert.checkpoint.write import output_file
from pumer_convert.errors import InputError, MissingDependencyError
from pumer_convert.recipe import Profile

log = logging.getLogger("pumer_convert.tensorrt")

MODULES = {"tensorrt": ("tensorrt", "trt"), "tensorrt-rtx": ("tensorrt_rtx", "rtx")}
"""Flavour -> the module to import and the extra that installs it."""
RTX_DEFAULT = "8.0, 8.6, 8.9, 12.0 and later"
"""Where an RTX engine without a target runs, by NVIDIA's documentation."""
GPU = (Path("/dev/nvidia0"), Path("/dev/nvidiactl"), Path("/dev/dxg"))

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class EngineSettings:
    """How to build: flavour "auto", "tensorrt" or "tensorrt-rtx"; one optimisation profile per `profiles`.

    `compute_capabilities` such as ("8.6", "8.9") are the targets of an RTX engine.
    """

    flavour: str = "auto"
    profiles: tuple[Profile, ...] = (Profile(),)
    compute_capabilities: tuple[str, ...] = ()


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

    Strongly typed: the types are those of the graph. Gives the sidecar, which also holds all of `sidecar`. Raises
    MissingDependencyError when the package or the GPU it needs is not there, InputError for a graph or a profile
    that cannot be built; no file is left then.
    """
    settings = settings or EngineSettings()
    onnx_path = Path(onnx_path)
    out = Path(out) if out is not None else onnx_path.with_suffix(".engine")
    inputs, outputs = _signature(onnx_path)
    flavour, trt = _load(settings)
    with output_file(out, overwrite) as target:
        engine = _build(trt, flavour, onnx_path, inputs, settings, progress)
        target.write_bytes(engine)
        record = {
            "format": 1,
            "flavour": flavour,
            "tensorrt_version": trt.__version__,
            "compute_capabilities": list(settings.compute_capabilities)
            or (RTX_DEFAULT if flavour == "tensorrt-rtx" else "the GPU it was built on"),
            "inputs": inputs,
            "outputs": outputs,
            "profiles": [{i["name"]: _ranges(i, p) for i in inputs} for p in settings.profiles],
            "onnx": {"file": onnx_path.name, "sha256": _sha256(onnx_path)},
            "engine": {"file": out.name, "sha256": _sha256(target), "bytes": target.stat().st_size},
            **(sidecar or {}),
        }
        target.with_name(target.name + ".json").write_text(json.dumps(record, indent=2) + "\n")
    return record


def _load(settings: EngineSettings) -> tuple[str, Any]:
    gpu = any(path.exists() for path in GPU)
    flavour = settings.flavour
    if flavour == "auto":
        flavour = "tensorrt" if gpu and importlib.util.find_spec("tensorrt") else "tensorrt-rtx"
    name, extra = MODULES[flavour]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # its SWIG types
            trt = importlib.import_module(name)
    except ImportError:
        raise MissingDependencyError(
            f"building an engine needs {flavour}; install it with: pip install 'pumer-convert[{extra}]'"
        ) from None
    if flavour == "tensorrt" and not gpu:
        raise MissingDependencyError("TensorRT builds on the GPU it is for, and none is here; use tensorrt-rtx.")
    if settings.compute_capabilities and flavour == "tensorrt":
        raise InputError("TensorRT builds for the GPU it runs on; compute capabilities are for tensorrt-rtx.")
    return flavour, trt


def _build(
    trt: Any,
    flavour: str,
    onnx_path: Path,
    inputs: list[dict[str, Any]],
    settings: EngineSettings,
    progress: Progress | None,
) -> Any:
    logger = _logger(trt)
    builder = trt.Builder(logger)
    # From TensorRT 11 on every network is strongly typed and the flag is gone.
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_path)):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        nodes = "; ".join(f"{e.node_name() or 'graph'} ({e.node_operator() or '-'}): {e.desc()}" for e in errors)
        raise InputError(f"{onnx_path}: the parser of {flavour} refuses {len(errors)} nodes: {nodes}")
    config = builder.create_builder_config()
    for profile in settings.profiles:
        shapes = builder.create_optimization_profile()
        for entry in inputs:
            shapes.set_shape(entry["name"], *map(tuple, _ranges(entry, profile)))
        if config.add_optimization_profile(shapes) < 0:
            raise InputError(f"{flavour} refuses the profile {profile}: {logger.last}")
    _set_targets(trt, config, settings.compute_capabilities)
    monitor = None
    if progress is not None:
        monitor = _monitor(trt, progress)
        config.progress_monitor = monitor
    engine = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.stopped is not None:
        raise monitor.stopped
    if engine is None:
        raise InputError(f"{onnx_path}: {flavour} could not build it: {logger.last or 'it gave no reason'}")
    return engine


def _set_targets(trt: Any, config: Any, wanted: tuple[str, ...]) -> None:
    if not wanted:
        return
    offered = {name: value for name, value in trt.ComputeCapability.__members__.items() if name.startswith("SM")}
    config.num_compute_capabilities = len(wanted)
    for i, capability in enumerate(wanted):
        name = "SM" + capability.replace(".", "")
        if name not in offered:
            known = ", ".join(f"{n[2:-1]}.{n[-1]}" for n in offered)
            raise InputError(f"compute capability '{capability}' is not a target here; offered: {known}.")
        config.set_compute_capability(offered[name], i)


def _signature(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Inputs and outputs: name, dtype, shape with the names of dynamic sides."""
    import onnx

    if not path.is_file():
        raise InputError(f"{path}: there is no such ONNX file.")
    try:
        model = onnx.load(str(path), load_external_data=False)
        onnx.checker.check_model(str(path))
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path}: not a whole ONNX model ({first}).") from None

    def entry(value: Any) -> dict[str, Any]:
        kind = value.type.tensor_type
        shape = [d.dim_param or d.dim_value for d in kind.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        return {"name": value.name, "dtype": dtype, "shape": shape}

    return [entry(v) for v in model.graph.input], [entry(v) for v in model.graph.output]


def _ranges(entry: Mapping[str, Any], profile: Profile) -> list[list[int]]:
    """[smallest, fastest, largest] shape of an input."""
    sides = {"batch": profile.batch, "text": profile.text}
    unknown = [side for side in entry["shape"] if isinstance(side, str) and side not in sides]
    if unknown:
        raise InputError(f"input '{entry['name']}' has a dynamic side '{unknown[0]}'; only batch and text are known.")
    return [[sides[s][i] if isinstance(s, str) else int(s) for s in entry["shape"]] for i in range(3)]


def _logger(trt: Any) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        """TensorRT's talk goes to the log; the last error is kept for the sentence that the user gets."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last = ""

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.last = message.strip()
            log.info("%s", message)

    return Logger()


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Hands progress on; an exception in the callback (Ctrl-C) stops the build and is raised after it."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.totals: dict[str, int] = {}
            self.stopped: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.totals[phase_name] = num_steps

        def phase_finish(self, phase_name: str) -> None:
            self.totals.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                progress(phase_name, step, self.totals.get(phase_name, 0))
            except BaseException as error:
                self.stopped = error
            return self.stopped is None

    return Monitor()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
