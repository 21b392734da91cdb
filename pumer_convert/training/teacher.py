"""The dense model that teaches: asked once per sample where its answer stays the same, else every time."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from pumer_convert.convert.build import build
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.data.sample import Picture
from pumer_convert.models.body import Body
from pumer_convert.models.inputs import IDS, MASK
from pumer_convert.tasks.batches import Batch, picture_batches
from pumer_convert.tasks.embeddings import embedding_of
from pumer_convert.training.cache import TeacherCache
from pumer_convert.training.loss import Ask, TeacherOutput, logits
from pumer_convert.weights import Checkpoint


class Teacher:
    """A frozen model on a device. It is loaded when something is first asked that the cache does not know.

    `arithmetic` gives the context of its forward passes; `hidden`: its final tokens are asked for too; `ask` is how.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        arithmetic: Callable[[], AbstractContextManager[None]],
        cache: TeacherCache | None = None,
        hidden: bool = False,
        ask: Ask = logits,
    ) -> None:
        self.checkpoint, self.device, self.arithmetic = checkpoint, device, arithmetic
        self.cache, self.hidden, self.ask = cache, hidden, ask
        self._model: Body | None = None

    @property
    def model(self) -> Body:
        """The model, loaded by now."""
        if self._model is None:
            self._model = build(self.checkpoint).to(self.device).requires_grad_(False)
        return self._model

    @torch.no_grad()
    def __call__(self, batch: Batch) -> TeacherOutput:
        """What it says to a batch of training that is on its device."""
        if self.cache is None:
            said = self.asked(given(batch))
            return said if self.hidden else TeacherOutput(said.answers)
        if missing := self.cache.missing(batch.indices):
            inputs = {name: value[missing] for name, value in given(batch).items()}
            self.cache.write([batch.indices[place] for place in missing], self.asked(inputs).answers)
        return TeacherOutput(self.cache.read(batch.indices).to(self.device, non_blocking=True))

    @torch.no_grad()
    def asked(self, inputs: Mapping[str, Tensor]) -> TeacherOutput:
        """What it says to inputs, whether or not it was asked before."""
        with self.arithmetic():
            return self.ask(self.model, inputs)

    @torch.no_grad()
    def embeddings(
        self, graph: str, pictures: Sequence[Picture], preprocessor: Preprocessor, batch_size: int, workers: int = 0
    ) -> Tensor:
        """Those of pictures as they are, by a graph: float32 [pictures, D] on the CPU."""
        found = []
        for part in picture_batches(pictures, preprocessor, batch_size, workers):
            inputs = {name: value.to(self.device) for name, value in part.items()}
            found.append(embedding_of(self.model.run(graph, inputs)).float().cpu())
        return torch.cat(found)


def given(batch: Batch) -> dict[str, Tensor]:
    """What a teacher takes of a batch."""
    if batch.teacher_pictures is None:
        return dict(batch.inputs)
    return {name: value for name, value in batch.inputs.items() if name in (IDS, MASK)} | batch.teacher_pictures
