"""What a task is: how samples become rows of a batch, the loss, the distillation term and the metric."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, overload

import torch.nn.functional as F
from torch import Tensor

from pumer_convert.data.sample import Picture, Sample
from pumer_convert.errors import InputError


@dataclass(frozen=True)
class ModelInput:
    """What one line of the model's inputs is made of."""

    pictures: tuple[Picture, ...]
    text: str


@dataclass(frozen=True)
class Example:
    """One example of a batch: `lines` inputs that are judged together. `index` is its place among the samples.

    There is one line, except in retrieval: there a row is a query, its lines are the candidates, the right one first.
    """

    sample: Sample
    index: int
    lines: tuple[ModelInput, ...]


class Examples(Sequence[Example]):
    """The rows of the samples, each made when it is asked for."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples

    def make(self, index: int) -> Example:
        """The row of one sample."""
        sample = self.samples[index]
        return Example(sample, index, (ModelInput(sample.pictures, sample.text),))

    def __len__(self) -> int:
        return len(self.samples)

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self.make(i) for i in range(*index.indices(len(self)))]
        return self.make(range(len(self))[index])


class Measurement:
    """What models are measured by. Stateless: the same object serves every process. `pictures` is how many a sample
    has."""

    name: ClassVar[str]
    pictures: ClassVar[int] = 1

    def check(self, samples: Sequence[Sample]) -> None:
        """Raises InputError when there are no samples or they have the wrong number of pictures."""
        if not samples:
            raise InputError("there is no sample to work on.")
        first = samples[0]
        if len(first.pictures) != self.pictures:
            raise InputError(f"{first.where}: {len(first.pictures)} picture(s), but {self.name} takes {self.pictures}.")

    def texts_of(self, samples: Sequence[Sample]) -> Sequence[str]:
        """The texts that a model reads."""
        return [sample.text for sample in samples]

    def unanswerable(self, samples: Sequence[Sample]) -> str:
        """A sentence on samples of which no answer is right, "" when there is none."""
        return ""


@dataclass(frozen=True)
class Judgement:
    """What the answers to samples earned: float32 `scores` [samples] from 0 to 1, `answers` in words, and all
    metrics by name, of which the first is the mean of the scores."""

    scores: Tensor
    answers: list[str]
    metrics: dict[str, float]


class GenerationTask(Measurement, ABC):
    """A measurement of models that answer in words of their own."""

    @abstractmethod
    def judge(self, answers: Sequence[str], samples: Sequence[Sample]) -> Judgement:
        """Of an answer to each of the samples."""


class Rows(Measurement, ABC):
    """What batches are made for. `lines` is how many lines of inputs a row makes; `reads`: whether they have texts."""

    lines: int = 1
    reads: bool = True

    def rows(
        self, samples: Sequence[Sample], *, train: bool = False, seed: int = 0, epoch: int = 0
    ) -> Sequence[Example]:
        """A row for every sample, in their order; what is drawn depends on (seed, epoch, index) alone.

        Raises InputError for samples that cannot be this task's.
        """
        self.check(samples)
        return Examples(samples)

    @abstractmethod
    def target(self, rows: Sequence[Example]) -> dict[str, Tensor]:
        """What loss and scores compare with, for the rows of one batch; the first dimension of each is the rows."""


class Task(Rows):
    """One task with the labels of one checkpoint, for models that answer.

    `metric` names the mean of `scores`. Logits are [rows * lines, labels].
    """

    metric: ClassVar[str] = "accuracy"

    @abstractmethod
    def __init__(self, config: dict[str, Any]) -> None: ...

    @abstractmethod
    def loss(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """The task's loss of logits [rows * lines, labels], a scalar."""

    def distillation(
        self, student: Tensor, teacher: Tensor, target: Mapping[str, Tensor], temperature: float = 1.0
    ) -> Tensor:
        """See `divergence`."""
        return divergence(student, teacher, temperature)

    @abstractmethod
    def scores(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """The metric of every row, from 0 to 1: float32 [rows]."""

    @abstractmethod
    def answers(self, logits: Tensor) -> list[str]:
        """What the model says to every row, in words."""

    def summary(self, scores: Tensor) -> dict[str, float]:
        """The metric over all rows, by its name, from 0 to 1."""
        return {self.metric: float(scores.double().mean()) if scores.numel() else 0.0}


def divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(teacher || student) between the softmaxes of logits [rows, classes] at a temperature, summed over classes,
    mean over rows.

    Multiplied by the temperature squared, so that its gradient keeps its size (Hinton et al. 2015, section 2).
    """
    student = F.log_softmax(student.float() / temperature, -1)
    teacher = F.log_softmax(teacher.float() / temperature, -1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2
