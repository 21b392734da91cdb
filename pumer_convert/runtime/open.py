"""Opening whatever can run a model."""

from pathlib import Path
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.runtime.base import Runtime
from pumer_convert.weights import Checkpoint


def open_runtime(
    path: Path | str | Checkpoint,
    *,
    device: str = "auto",
    dtype: str = "float32",
    image_size: Any = None,
    compiled: bool = False,
    cuda_graph: bool = False,
    graph: str | None = None,
) -> Runtime:
    """A runtime for a checkpoint (folder, .ckpt, or an open one), an ONNX file or an engine (see `Runtime` for how it
    is called).

    `device`: auto, cpu or cuda[:i]; for an ONNX file also tensorrt or tensorrt-rtx, ONNX Runtime's providers of these.
    `dtype`, `image_size`, `compiled` (torch.compile, anew for every shape) and `graph` (one of several; None: the
    first) are for checkpoints alone, `cuda_graph` for engines alone. Raises InputError for what cannot be opened,
    MissingDependencyError for a missing package or device.
    """
    checkpoint, path = path, path.path if isinstance(path, Checkpoint) else Path(path)
    if path.suffix in (".onnx", ".engine") and (dtype != "float32" or image_size is not None or compiled or graph):
        raise InputError(f"{path}: type, image size, graph and compilation were settled when it was exported.")
    if path.suffix != ".engine" and cuda_graph:
        raise InputError(f"{path}: CUDA graphs are for engines.")
    if path.suffix == ".onnx":
        from pumer_convert.runtime.onnx import OnnxRuntime

        return OnnxRuntime(path, device)
    if path.suffix == ".engine":
        from pumer_convert.runtime.engine import EngineRuntime

        return EngineRuntime(path, device, cuda_graph)
    from pumer_convert.runtime.eager import TorchRuntime

    return TorchRuntime(checkpoint, device, dtype, image_size, compiled, graph)
