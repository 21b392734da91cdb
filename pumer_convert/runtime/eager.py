"""A checkpoint in PyTorch, eager or compiled."""

import copy
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from pumer_convert.checkpoint.read import as_checkpoint
from pumer_convert.convert.build import build
from pumer_convert.convert.load import signature_of
from pumer_convert.device import open_device
from pumer_convert.models.body import in_full
from pumer_convert.models.signature import Signature
from pumer_convert.runtime.base import Runtime
from pumer_convert.weights import Checkpoint


class TorchRuntime(Runtime):
    """One graph (None: the first) of a checkpoint's model on one device. Calls from several threads overlap."""

    def __init__(
        self,
        checkpoint: Path | str | Checkpoint,
        device: str = "auto",
        dtype: str = "float32",
        image_size: Any = None,
        compiled: bool = False,
        graph: str | None = None,
    ) -> None:
        self.device = open_device(device)
        checkpoint = as_checkpoint(checkpoint)
        model = build(checkpoint, image_size, dtype).to(self.device)
        self.signature = signature_of(checkpoint, graph, image_size)
        self.dtype = model.dtype
        self.model = torch.compile(model.run, dynamic=False) if compiled else model.run

    def of_graph(self, signature: Signature) -> "TorchRuntime":
        """Another graph of the same network."""
        other = copy.copy(self)
        other.signature = signature
        return other

    def _numpy(self, given: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        outputs = self._torch({name: torch.from_numpy(value) for name, value in given.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    @torch.inference_mode()
    def _torch(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        home = next(iter(given.values())).device
        placed = {
            name: value.to(self.device, self.dtype if value.is_floating_point() else None)
            for name, value in given.items()
        }
        outputs = self.model(self.signature.name, placed).outputs
        return {name: in_full(value).to(home) for name, value in outputs.items()}
