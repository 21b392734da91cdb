"""A TensorRT or TensorRT-RTX engine on the GPU it was built for."""

import json
import threading
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from pumer_convert.artifact.engine_sidecar import Sidecar
from pumer_convert.artifact.tensorrt_flavours import has_gpu, import_flavour, logger_of
from pumer_convert.errors import InputError, MissingDependencyError
from pumer_convert.models.inputs import PATCHES
from pumer_convert.runtime.base import Runtime
from pumer_convert.system.owned import digest


class EngineRuntime(Runtime):
    """An engine with one execution context and a stream of its own; calls from several threads take turns, so open
    one runtime per thread where they should overlap.

    CUDA tensors are bound where they lie. The profile is chosen by the shape. With `cuda_graph` each shape is recorded
    once, at its first call, and replayed; its inputs are copied into tensors that stay.
    """

    def __init__(self, path: Path, device: str = "auto", cuda_graph: bool = False) -> None:
        self.sidecar = Sidecar.of(path)
        self.sidecar.check_engine()
        if not has_gpu():
            raise MissingDependencyError(f"{path}: running an engine needs an NVIDIA GPU, and none is here.")
        trt = import_flavour(self.sidecar.flavour)
        self.sidecar.check_version(trt.__version__)
        name = "cuda" if device == "auto" else device
        if torch.device(name).type != "cuda" or not torch.cuda.is_available():
            raise MissingDependencyError(f"{path}: an engine runs on a GPU that torch sees; '{name}' is none here.")
        self.device = torch.device(name)
        self.sidecar.check_capability(torch.cuda.get_device_capability(self.device))
        with torch.cuda.device(self.device):
            logger = logger_of(trt)
            self.trt, self.runtime = trt, trt.Runtime(logger)
            self.engine = self.runtime.deserialize_cuda_engine(path.read_bytes())
            if self.engine is None:
                raise InputError(f"{path}: {self.sidecar.flavour} cannot load it on this GPU; build it again here.")
            if self.sidecar.values.get("stripped"):
                self._refit(path.parent / self.sidecar.values["onnx"]["file"], logger)
            self.context = self.engine.create_execution_context()
            self.stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        self.signature = self.sidecar.signature
        self.largest_batch = max(profile["batch"][2] for profile in self.sidecar.profiles)
        self.lock = threading.Lock()
        self.graphs: dict[tuple[int, ...], tuple[torch.cuda.CUDAGraph, dict[str, Tensor], dict[str, Tensor]]] | None = (
            {} if cuda_graph else None
        )

    def layers(self) -> list[Any]:
        """What TensorRT made of the graph, layer by layer; only names unless it was built with layer information."""
        trt, inspector = self.trt, self.engine.create_engine_inspector()
        found: list[Any] = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))["Layers"]
        return found

    def _refit(self, onnx_file: Path, logger: Any) -> None:
        """Put the weights of the ONNX file into an engine that was built without."""
        if not onnx_file.is_file():
            raise InputError(f"{onnx_file}: missing; the engine beside it has no weights and takes them from there.")
        if digest(onnx_file) != self.sidecar.values["onnx"]["sha256"]:
            raise InputError(f"{onnx_file}: not the one that the engine beside it was built from; build it once more.")
        trt = self.trt
        refitter = trt.Refitter(self.engine, logger)
        parser = trt.OnnxParserRefitter(refitter, logger)
        if not parser.refit_from_file(str(onnx_file)) or not refitter.refit_cuda_engine():
            raise InputError(f"{onnx_file}: its weights do not fit the engine beside it; export both once more.")

    def _numpy(self, given: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        outputs = self._torch({name: torch.from_numpy(value) for name, value in given.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    def _torch(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        home = next(iter(given.values())).device
        if PATCHES in given:
            lacking = max(self.sidecar.least_patches - given[PATCHES].shape[-2], 0)
            given = given | {PATCHES: torch.nn.functional.pad(given[PATCHES], (0, 0, 0, lacking))}
        sides = self.signature.sides({name: tuple(value.shape) for name, value in given.items()})
        profile = self.sidecar.profile(**sides)
        with self.lock, torch.cuda.device(self.device):
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                placed = {name: value.to(self.device).contiguous() for name, value in given.items()}
                outputs = self._replay(placed, profile) if self.graphs is not None else self._enqueue(placed, profile)
            torch.cuda.current_stream().wait_stream(self.stream)
            for tensor in (*placed.values(), *outputs.values()):
                tensor.record_stream(torch.cuda.current_stream())
        return {name: value.to(home) for name, value in outputs.items()}

    def _bind(self, given: dict[str, Tensor], profile: int) -> dict[str, Tensor]:
        if self.context.active_optimization_profile != profile:
            self.context.set_optimization_profile_async(profile, self.stream.cuda_stream)
        for name, value in given.items():
            if not self.context.set_input_shape(name, tuple(value.shape)):
                raise InputError(f"the engine refuses {name} of shape {list(value.shape)}.")
            self.context.set_tensor_address(name, value.data_ptr())
        outputs = self._empty(given, self.device)
        for name, value in outputs.items():
            self.context.set_tensor_address(name, value.data_ptr())
        return outputs

    def _enqueue(self, given: dict[str, Tensor], profile: int) -> dict[str, Tensor]:
        outputs = self._bind(given, profile)
        if not self.context.execute_async_v3(self.stream.cuda_stream):
            raise InputError("the engine failed while it ran; see TensorRT's message on standard error.")
        return outputs

    def _replay(self, given: dict[str, Tensor], profile: int) -> dict[str, Tensor]:
        assert self.graphs is not None
        key = tuple(side for value in given.values() for side in value.shape)
        if key not in self.graphs:
            kept = {name: value.clone() for name, value in given.items()}
            self._enqueue(kept, profile)  # kernels are loaded or compiled at the first call, which cannot be recorded
            self.stream.synchronize()
            graph, outputs = torch.cuda.CUDAGraph(), self._bind(kept, profile)
            with torch.cuda.graph(graph, stream=self.stream):
                self.context.execute_async_v3(self.stream.cuda_stream)
            self.graphs[key] = graph, kept, outputs
        graph, kept, outputs = self.graphs[key]
        for name, value in given.items():
            kept[name].copy_(value)
        graph.replay()
        return {name: value.clone() for name, value in outputs.items()}
