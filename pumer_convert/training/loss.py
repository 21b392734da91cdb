"""The loss of a distillation: the task's, the teacher's answers, and on request its hidden states."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from pumer_convert.models.body import Body
from pumer_convert.models.output import Output
from pumer_convert.recipe.settings import DistillSettings
from pumer_convert.tasks.base import Task
from pumer_convert.tasks.batches import Batch
from pumer_convert.tokens import Tokens


@dataclass(frozen=True)
class TeacherOutput:
    """What the teacher says to a batch: its answers, logits [L, labels] or embeddings [rows, width], and its final
    tokens when its hidden states are asked for."""

    answers: Tensor
    output: Output | None = None


@dataclass(frozen=True)
class Losses:
    """Scalars: `total` is what is minimised, `terms` are its parts without their weights (0 where one is off), `score`
    is how well the student did."""

    total: Tensor
    terms: tuple[Tensor, ...]
    score: Tensor


Ask = Callable[[Body, Mapping[str, Tensor]], TeacherOutput]
"""What a teacher says to all inputs of a batch."""


def logits(model: Body, inputs: Mapping[str, Tensor]) -> TeacherOutput:
    """What a model that answers says."""
    output: Output = model(**inputs)
    return TeacherOutput(output.logits, output)


class Loss(Protocol):
    """What a kind of model learns by. `terms` and `metric` name the terms of its `Losses` and their score."""

    terms: ClassVar[tuple[str, ...]]
    metric: ClassVar[str]

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """What the student is called with."""
        ...

    def ask(self, model: Body, inputs: Mapping[str, Tensor]) -> TeacherOutput:
        """What a teacher says to all inputs of a batch."""
        ...

    def __call__(self, student: Output, taught: TeacherOutput | None, batch: Batch) -> Losses:
        """The losses of a batch."""
        ...


class AnswerLoss:
    """Of models that answer: task + kd * KL(teacher || student) + hidden * (distance of the hidden states)."""

    terms: ClassVar[tuple[str, ...]] = ("task_loss", "kd_loss", "hidden_loss")
    metric: ClassVar[str] = "accuracy"

    def __init__(self, task: Task, settings: DistillSettings) -> None:
        self.task, self.settings = task, settings

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """See `Loss`."""
        return batch.inputs

    def ask(self, model: Body, inputs: Mapping[str, Tensor]) -> TeacherOutput:
        """See `Loss`."""
        return logits(model, inputs)

    def __call__(self, student: Output, taught: TeacherOutput | None, batch: Batch) -> Losses:
        """See `Loss`."""
        task, settings = self.task, self.settings
        own = task.loss(student.logits, batch.target)
        kd = hidden = torch.zeros_like(own)
        if settings.kd and taught is not None:
            kd = task.distillation(student.logits, taught.answers, batch.target, settings.temperature)
        if settings.hidden and taught is not None and taught.output is not None:
            hidden = (distance(student.image, taught.output.image) + distance(student.text, taught.output.text)) / 2
        score = task.scores(student.logits.detach(), batch.target).mean()
        return weighed((own, 1.0), (kd, settings.kd), (hidden, settings.hidden), score=score)


def weighed(*terms: tuple[Tensor, float], score: Tensor) -> Losses:
    """The losses of these terms, each with its weight."""
    total = sum(term * weight for term, weight in terms)
    assert isinstance(total, Tensor)
    return Losses(total, tuple(term.detach() for term, _ in terms), score)


def distance(student: Tokens, teacher: Tokens) -> Tensor:
    """Mean squared difference of each of the student's tokens from the mean of the teacher's states of the original
    tokens that stand in it (`Tokens.source`), over the tokens that are there.

    `teacher` is unreduced: its states are [B, N0, C] for the student's source [B, N0].
    """
    states = teacher.states.detach().float()
    target = student.pool(states)
    there = (student.pool(torch.ones_like(states[..., :1]))[..., 0] > 0).float()
    squares = (student.states.float() - target).square().mean(-1)
    return (squares * there).sum() / there.sum().clamp(min=1)
