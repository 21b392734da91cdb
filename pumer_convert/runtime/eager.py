"""A checkpoint in PyTorch, eager or compiled."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pumer_convert.checkpoint.read import as_checkpoint
from pumer_convert.convert.build import build
from pumer_convert.convert.load import spec_of
from pumer_convert.device import open_device
from pumer_convert.image_processor.picture_input import picture_input
from pumer_convert.runtime.base import Runtime
from pumer_convert.runtime.input_checks import TextLimits
from pumer_convert.weights import Checkpoint


class TorchRuntime(Runtime):
    """A checkpoint's model on one device. Calls from several threads overlap."""

    def __init__(
        self,
        checkpoint: Path | str | Checkpoint,
        device: str = "auto",
        dtype: str = "float32",
        image_size: Any = None,
        compiled: bool = False,
    ) -> None:
        self.device = open_device(device)
        checkpoint = as_checkpoint(checkpoint)
        spec = spec_of(checkpoint)
        self.text = TextLimits(spec.vocabulary, spec.max_text)
        model = build(checkpoint, image_size, dtype).to(self.device)
        self.pictures = picture_input(checkpoint, image_size)
        self.dtype = next(model.parameters()).dtype
        self.model = torch.compile(model, dynamic=False) if compiled else model

    def _numpy(self, given: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self._torch(
            {name: torch.from_numpy(value) for name, value in given.items()}
        ).numpy()
        return logits

    @torch.inference_mode()
    def _torch(self, given: dict[str, Tensor]) -> Tensor:
        home = given["input_ids"].device
        placed = {
            name: value.to(self.device, self.dtype if value.is_floating_point() else None)
            for name, value in given.items()
        }
        logits: Tensor = self.model(**placed).logits
        return logits.float().to(home)
