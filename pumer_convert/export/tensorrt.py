"""ONNX file -> engine, with TensorRT (on a GPU) or TensorRT-RTX (ahead of time, no GPU needed)."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from pumer_convert.artifact.tensorrt_flavours import choose_flavour, logger_of, one_line
from pumer_convert.errors import InputError, MissingDependencyError
from pumer_convert.models.signature import PICTURES, TEXTS
from pumer_convert.recipe.schema import Profile
from pumer_convert.system.json_file import read_object
from pumer_convert.system.output import output_files
from pumer_convert.system.owned import digest, write_list
from pumer_convert.system.whole import check_whole

ORIGIN = "module"
"""The metadata of a node that `export_onnx` writes: the part of the model that it came from."""
RTX_DEFAULT = "8.0, 8.6, 8.9, 12.0 and later"  # where an engine without a target runs, by NVIDIA's documentation

PARTS = (".json",)
"""What belongs to an engine, beside it."""

Shapes = dict[str, list[list[int]]]
"""Input name -> its [smallest, fastest, largest] shape."""
Progress = Callable[[str, int, int], None]
"""Called with a phase, the step that it finished and how many it has; an exception in it stops the build."""


@dataclass(frozen=True)
class EngineSettings:
    """How to build.

    flavour               "auto", "tensorrt" or "tensorrt-rtx" (export/flavour.py tells their differences).
    profiles              one optimisation profile for each; none: one with the defaults of `Profile`.
    compute_capabilities  targets of a TensorRT-RTX engine, such as ("8.6", "8.9").
    workspace_gib         the most memory that a layer may take for itself; None: all there is.
    optimization_level    0 to 5: how long the builder searches; None: its default.
    version_compatible    a TensorRT engine that newer versions of the same major run as well.
    hardware_compatible   a TensorRT engine for every GPU from Ampere on, and not only the one it is built on.
    strip_weights         an engine without weights, which are put in from the ONNX file when it is opened.
    layer_information     keep the details of every layer in the engine, for `EngineRuntime.layers` and profilers.
    """

    flavour: str = "auto"
    profiles: tuple[Profile, ...] = ()
    compute_capabilities: tuple[str, ...] = ()
    workspace_gib: float | None = None
    optimization_level: int | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    strip_weights: bool = False
    layer_information: bool = False


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

    Strongly typed. What TensorRT measured is kept in `out`.timing and used again. Gives the sidecar, which also holds
    all of `sidecar`. Raises MissingDependencyError for want of the package or its GPU, InputError for a graph, a
    profile or a setting that cannot be; no file is left then.
    """
    settings = settings or EngineSettings()
    onnx_path = Path(onnx_path)
    out = Path(out or onnx_path.with_suffix(".engine"))
    inputs, outputs = _signature(onnx_path)
    check_whole(onnx_path)
    pictures = (_sidecar_of(onnx_path) if sidecar is None else sidecar).get("pictures") or {}
    profiles = [_profile(inputs, profile, pictures) for profile in settings.profiles or (Profile(),)]
    flavour, trt = choose_flavour(settings.flavour, asdict(settings))
    with output_files(out, overwrite, parts=PARTS, inputs=[onnx_path]) as target:
        cache = out.with_name(out.name + ".timing") if flavour == "tensorrt" else None
        _build(trt, flavour, onnx_path, profiles, settings, target, cache, progress)
        record = {
            **(sidecar or {}),
            "format": 1,
            "flavour": flavour,
            "tensorrt_version": trt.__version__,
            "compute_capabilities": list(settings.compute_capabilities) or _runs_on(flavour),
            "inputs": inputs,
            "outputs": outputs,
            "profiles": profiles,
            "version_compatible": settings.version_compatible,
            "hardware_compatible": settings.hardware_compatible,
            "stripped": settings.strip_weights,
            "settings": asdict(replace(settings, flavour=flavour)),
            "onnx": {"file": onnx_path.name, "sha256": digest(onnx_path)},
            "engine": {"file": out.name, "sha256": digest(target), "bytes": target.stat().st_size},
        }
        hashes = {file.name: digest(file) for file in sorted(target.parent.iterdir()) if file != target}
        hashes[out.name] = record["engine"]["sha256"]
        return write_list(target.with_name(out.name + ".json"), record, hashes)


def _sidecar_of(onnx_path: Path) -> Mapping[str, Any]:
    """What the sidecar of an ONNX file says, {} without one."""
    file = onnx_path.with_name(onnx_path.name + ".json")
    return read_object(file) if file.is_file() else {}


def check_onnx(onnx_path: Path | str, flavour: str = "auto") -> dict[str, Any]:
    """Ask a flavour's parser for every node of an ONNX file; nothing is built. Gives the flavour and its version.

    Raises InputError that names each refused node, why, and the part of the model it came from; MissingDependencyError
    as `build_engine` does.
    """
    onnx_path = Path(onnx_path)
    _signature(onnx_path)
    flavour, trt = choose_flavour(flavour, {})
    _parse(trt, flavour, onnx_path)
    return {"flavour": flavour, "version": trt.__version__}


def _parse(trt: Any, flavour: str, path: Path) -> tuple[Any, ...]:
    """The builder, the network and the parser, which have to live until the engine is built, and the logger."""
    logger = logger_of(trt)
    logger.errors.clear()
    try:
        builder = trt.Builder(logger)
    except (TypeError, RuntimeError):
        raise MissingDependencyError(f"{flavour} cannot start its builder: {logger.why()}.") from None
    # From TensorRT 11 on every network is strongly typed and the flag is gone.
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        nodes = [_refused(parser.get_error(i), path) for i in range(parser.num_errors)] or [logger.why()]
        raise InputError(f"{path}: the parser refuses {len(nodes)} node{'s'[: len(nodes) - 1]}: {'; '.join(nodes)}")
    return builder, network, parser, logger


def _runs_on(flavour: str) -> list[str] | str:
    if flavour == "tensorrt-rtx":
        return RTX_DEFAULT
    import torch

    return ["{}.{}".format(*torch.cuda.get_device_capability())] if torch.cuda.is_available() else []


def _build(
    trt: Any,
    flavour: str,
    path: Path,
    profiles: list[Shapes],
    settings: EngineSettings,
    target: Path,
    cache: Path | None,
    progress: Progress | None,
) -> None:
    builder, network, _parser, logger = _parse(trt, flavour, path)
    config = builder.create_builder_config()
    _configure(trt, config, settings)
    for ranges in profiles:
        shapes = builder.create_optimization_profile()
        for name, sides in ranges.items():
            shapes.set_shape(name, *map(tuple, sides))
        if config.add_optimization_profile(shapes) < 0:
            raise InputError(f"{flavour} refuses the profile {ranges}: {logger.why()}")
    if cache is not None:
        measured = config.create_timing_cache(cache.read_bytes() if cache.exists() else b"")
        config.set_timing_cache(measured, ignore_mismatch=False)
    monitor = config.progress_monitor = _monitor(trt, progress)
    writer = _writer(trt, target)
    # As a stream: the engine need not stand in memory once more.
    built = builder.build_serialized_network_to_stream(network, config, writer)
    if (stopped := monitor.stopped or writer.stopped) is not None:
        raise stopped
    if not built:
        raise InputError(f"{path}: {flavour} could not build it: {logger.why()}")
    if cache is not None and (measured := config.get_timing_cache()) is not None:
        target.with_name(cache.name).write_bytes(measured.serialize())


def _refused(error: Any, path: Path) -> str:
    """A parser error as "node_name (OpType) in part.of.the.model: why"."""
    import onnx

    name, kind = error.node_name(), error.node_operator()
    model = onnx.load(str(path), load_external_data=False)
    nodes = [(node, "") for node in model.graph.node]
    nodes += [(node, f"{f.domain}::{f.name}/") for f in model.functions for node in f.node]
    if name:
        found = [(node, within) for node, within in nodes if node.name == name]
    else:
        # The refusal of an attribute names neither; the function that refused is named after the operator.
        kind = kind or error.func().removeprefix("import")
        found = [(node, within) for node, within in nodes if node.op_type == kind]
        names = [within + (node.name or node.output[0]) for node, within in found]
        name = "one of " * (len(names) > 1) + ", ".join(names[:5] + ["..."] * (len(names) > 5)) or "unnamed"
    origins = {entry.value for node, _ in found for entry in node.metadata_props if entry.key == ORIGIN}
    where = f" in {', '.join(sorted(origins)[:3])}" if origins else ""
    return f"{name} ({kind}){where}: {one_line(error.desc())}"


def _configure(trt: Any, config: Any, settings: EngineSettings) -> None:
    if settings.workspace_gib is not None:
        if not settings.workspace_gib > 0:
            raise InputError(f"a workspace of {settings.workspace_gib} GiB is none; give more than 0 or leave it out.")
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(settings.workspace_gib * 2**30))
    if settings.optimization_level is not None:
        if settings.optimization_level not in range(6):
            raise InputError(f"there is no optimisation level {settings.optimization_level}; they are 0 to 5.")
        config.builder_optimization_level = settings.optimization_level
    if settings.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if settings.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if settings.strip_weights:
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)
        config.set_flag(trt.BuilderFlag.REFIT_IDENTICAL)
    if settings.layer_information:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
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


def _profile(inputs: list[dict[str, Any]], profile: Profile, pictures: Mapping[str, Any]) -> Shapes:
    """The shapes of a profile; `pictures` tells how many patches they have (see `PictureInput`)."""
    sides = {**dict.fromkeys(("batch", TEXTS, PICTURES), profile.batch), "text": profile.text}
    if any("patches" in entry["shape"] for entry in inputs):
        fewest, usual, most = (pictures.get(name) for name in ("fewest", "usual", "most"))
        if profile.patches is None and most is None:
            raise InputError(
                "nothing says how many patches a picture has at most; give a profile that does, as in "
                "1:1:8,4:32:40,19:144:228 (batch, text, patches)."
            )
        sides["patches"] = profile.patches or (int(fewest or 1), int(usual or 1), int(most or 1))
    elif profile.patches is not None:
        raise InputError("a profile's patches are for pictures that keep their shape; these have one size.")
    for side, sizes in sides.items():
        if len(sizes) != 3 or not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
            raise InputError(f"profile: {side} must be [smallest, fastest, largest], rising from 1, not {list(sizes)}.")
    for entry in inputs:
        unknown = [side for side in entry["shape"] if isinstance(side, str) and side not in sides]
        if unknown:
            raise InputError(
                f"input '{entry['name']}' has a dynamic side '{unknown[0]}'; only batch, text and patches may be."
            )
    return {e["name"]: [[sides[s][i] if s in sides else s for s in e["shape"]] for i in range(3)] for e in inputs}


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


def _writer(trt: Any, target: Path) -> Any:
    class Writer(trt.IStreamWriter):  # type: ignore[misc]
        """Writes the engine as it comes; an error of the disk ends the build and is raised after it."""

        stopped: OSError | None = None

        def write(self, data: bytes) -> int:
            try:
                with target.open("ab") as file:
                    return file.write(data)
            except OSError as error:
                self.stopped = error
                return 0

    return Writer()
