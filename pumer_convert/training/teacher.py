"""The dense model that teaches: asked once per sample where its answer stays the same, else every time."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import nn

from pumer_convert.convert.build import build
from pumer_convert.models.inputs import IDS, MASK
from pumer_convert.tasks.batches import Batch
from pumer_convert.training.cache import LogitCache
from pumer_convert.training.loss import TeacherOutput
from pumer_convert.weights import Checkpoint


class Teacher:
    """A frozen model on a device. It is loaded when something is first asked that the cache does not know.

    `arithmetic` gives the context of its forward passes; `hidden`: its final tokens are asked for too.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        arithmetic: Callable[[], AbstractContextManager[None]],
        cache: LogitCache | None = None,
        hidden: bool = False,
    ) -> None:
        self.checkpoint, self.device, self.arithmetic = checkpoint, device, arithmetic
        self.cache, self.hidden = cache, hidden
        self._model: nn.Module | None = None

    @property
    def model(self) -> nn.Module:
        """The model, loaded by now."""
        if self._model is None:
            self._model = build(self.checkpoint).to(self.device).requires_grad_(False)
        return self._model

    @torch.no_grad()
    def __call__(self, batch: Batch) -> TeacherOutput:
        """What it says to a batch that is on its device."""
        given = dict(batch.inputs)
        if batch.teacher_pictures is not None:
            given = {name: value for name, value in given.items() if name in (IDS, MASK)} | batch.teacher_pictures
        if self.cache is None:
            with self.arithmetic():
                output = self.model(**given)
            return TeacherOutput(output.logits, output if self.hidden else None)
        if missing := self.cache.missing(batch.indices):
            inputs = {name: value[missing] for name, value in given.items()}
            with self.arithmetic():
                logits = self.model(**inputs).logits
            self.cache.write([batch.indices[place] for place in missing], logits)
        return TeacherOutput(self.cache.read(batch.indices).to(self.device, non_blocking=True))
