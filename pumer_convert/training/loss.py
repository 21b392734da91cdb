"""The loss of a distillation: the task's, the teacher's answers, and on request its hidden states."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pumer_convert.models.output import Output
from pumer_convert.recipe.settings import DistillSettings
from pumer_convert.tasks.base import Task
from pumer_convert.tasks.batches import Batch
from pumer_convert.tokens import Tokens


@dataclass(frozen=True)
class TeacherOutput:
    """What the teacher says to a batch: its logits [L, labels], and its final tokens when its hidden states are asked
    for."""

    logits: Tensor
    output: Output | None = None


@dataclass(frozen=True)
class Losses:
    """Scalars: `total` is what is minimised, the others are its terms without their weights (0 where one is off)."""

    total: Tensor
    task: Tensor
    kd: Tensor
    hidden: Tensor


def losses(
    student: Output, taught: TeacherOutput | None, batch: Batch, task: Task, settings: DistillSettings
) -> Losses:
    """task + kd * KL(teacher || student) + hidden * (distance of the hidden states)."""
    own = task.loss(student.logits, batch.target)
    total, kd, hidden = own, torch.zeros_like(own), torch.zeros_like(own)
    if settings.kd and taught is not None:
        kd = task.distillation(student.logits, taught.logits, batch.target, settings.temperature)
        total = total + settings.kd * kd
    if settings.hidden and taught is not None and taught.output is not None:
        hidden = (distance(student.image, taught.output.image) + distance(student.text, taught.output.text)) / 2
        total = total + settings.hidden * hidden
    return Losses(total, own.detach(), kd.detach(), hidden.detach())


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
