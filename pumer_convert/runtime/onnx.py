"""An exported ONNX file in ONNX Runtime."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from pumer_convert.artifact.sidecar import read_sidecar
from pumer_convert.errors import InputError, MissingDependencyError
from pumer_convert.models.inputs import IDS, Port
from pumer_convert.models.signature import signature_of
from pumer_convert.runtime.base import Runtime
from pumer_convert.system.paths import check_utf8
from pumer_convert.system.whole import whole

if TYPE_CHECKING:
    import torch

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "tensorrt-rtx": "NvTensorRTRTXExecutionProvider",
}
_DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64"}


class OnnxRuntime(Runtime):
    """A session on one provider; what it cannot run falls to the CPU. Calls from several threads overlap.

    Torch tensors on the session's device are bound where they lie and the outputs are written straight into tensors.
    """

    def __init__(
        self, path: Path, device: str = "auto", arena: bool = True, graph: bytes | None = None, reuse: bool = False
    ) -> None:
        """`arena` False: memory goes back to the system after every pass, which is slower but tells what it took.
        `graph`: another graph over the weights of `path`. `reuse`: buffers are planned for reuse, as is ONNX Runtime's
        default, which takes time that grows with the square of the number of lengths in a graph: a session of a
        reduced model then takes twice as long to make, and a pass on the CPU no less time or memory."""
        import onnxruntime

        if not path.is_file():
            raise InputError(f"{path}: there is no such ONNX file.")
        check_utf8(path)
        name, index = _provider(device, onnxruntime.get_available_providers())
        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = arena
        options.enable_mem_reuse = reuse or name != "cpu"
        # Threads that wait busily after a pass take the CPU from every other session of the process.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        chosen: list[Any] = [PROVIDERS["cpu"]] if name == "cpu" else [(PROVIDERS[name], {"device_id": str(index)})]
        try:
            if graph is not None:
                folder = str(path.parent.absolute())
                options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
            with whole(path):
                self.session = onnxruntime.InferenceSession(graph or str(path), options, providers=chosen)
        except InputError:
            raise
        except Exception as error:
            first = str(error).strip().splitlines()[0]
            hint = " The CPU has no bfloat16 kernels; run it on a GPU, or export it in float32 or float16."
            raise InputError(
                f"{path}: ONNX Runtime cannot load it: {first}{hint if 'bfloat16' in first else ''}"
            ) from None
        if PROVIDERS[name] not in self.session.get_providers():
            raise MissingDependencyError(f"ONNX Runtime could not start its provider '{name}' here; try device cpu.")
        sidecar = path.with_name(path.name + ".json")
        values = read_sidecar(path) if sidecar.is_file() else _sidecar_of_graph(path)
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        try:
            ports = [Port(entry.name, _DTYPES[entry.type], tuple(entry.shape)) for entry in outputs]
            self.signature = signature_of({entry.name: entry.shape for entry in inputs}, ports, values)
        except (InputError, KeyError) as error:
            why = error if isinstance(error, InputError) else "it was not exported by pumer-convert."
            raise InputError(f"{path}: {why}") from None
        self.device = "cpu" if name == "cpu" else "cuda"
        self.index = index

    def _numpy(self, given: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        names = list(self.signature.names)
        with _refused():
            return dict(zip(names, self.session.run(names, given), strict=True))

    def _torch(self, given: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
        import torch

        home = next(iter(given.values())).device
        place = torch.device(self.device, self.index) if self.device == "cuda" else torch.device("cpu")
        given = {name: value.to(place).contiguous() for name, value in given.items()}
        outputs = self._empty(given, place)
        binding = self.session.io_binding()
        for name, value in given.items():
            binding.bind_input(name, self.device, self.index, *_layout(value))
        for name, value in outputs.items():
            binding.bind_output(name, self.device, self.index, *_layout(value))
        if place.type == "cuda":
            torch.cuda.current_stream(place).synchronize()  # the session runs in a stream of its own
        with _refused():
            self.session.run_with_iobinding(binding)
        return {name: value.to(home) for name, value in outputs.items()}


@contextmanager
def _refused() -> Iterator[None]:
    """Inside, a session runs: that it finds an input impossible (an id beyond a table whose size nobody told) is an
    InputError."""
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

    try:
        yield
    except InvalidArgument as error:
        raise InputError(f"ONNX Runtime refuses these inputs: {str(error).strip().splitlines()[0]}") from None


def _layout(value: "torch.Tensor") -> tuple[str, tuple[int, ...], int]:
    return str(value.dtype).removeprefix("torch."), tuple(value.shape), value.data_ptr()


def _sidecar_of_graph(path: Path) -> dict[str, Any]:
    """What the graph itself tells of texts: the rows of the table that the ids look up."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    tables = {
        name for node in graph.node if node.op_type == "Gather" and IDS in node.input[1:] for name in node.input[:1]
    }
    rows = [tensor.dims[0] for tensor in graph.initializer if tensor.name in tables]
    return {"text": {"vocab_size": min(rows, default=None)}}


def _provider(device: str, offered: list[str]) -> tuple[str, int]:
    """ "auto", "cpu", "cuda:1", "tensorrt", ... as a provider's short name and a device number."""
    if device == "auto":
        from pumer_convert.artifact.tensorrt_flavours import has_gpu

        device = "cuda" if PROVIDERS["cuda"] in offered and has_gpu() else "cpu"
    name, _, number = device.partition(":")
    if name not in PROVIDERS or not (number or "0").isdecimal():
        raise InputError(f"an ONNX file cannot run on '{device}'; allowed: auto, {', '.join(PROVIDERS)}, cuda:1, ...")
    if PROVIDERS[name] not in offered:
        raise MissingDependencyError(f"this onnxruntime has no provider '{name}'; it offers {', '.join(offered)}.")
    return name, int(number or 0)
