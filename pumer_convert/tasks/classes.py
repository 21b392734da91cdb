"""What tasks with a few fixed classes share: cross-entropy, and right or wrong."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pumer_convert.errors import InputError
from pumer_convert.models.labels import names, placeholders
from pumer_convert.tasks.base import Example, Task


class ClassTask(Task):
    """A task whose answer is one of `classes`; a checkpoint may have them in another order, told by id2label."""

    classes: ClassVar[tuple[str, ...]]

    def __init__(self, config: dict[str, Any]) -> None:
        labels = names(config)
        if placeholders(labels) and len(labels) == len(self.classes):
            labels = list(self.classes)
        self.labels = labels
        self.place = {label.strip().lower(): i for i, label in enumerate(labels)}
        missing = [c for c in self.classes if c.lower() not in self.place]
        if missing or len(labels) != len(self.classes):
            raise InputError(
                f"the task {self.name} tells {', '.join(self.classes)} apart, but the checkpoint's id2label says "
                f"{', '.join(labels[:5])}{', ...' if len(labels) > 5 else ''}."
            )

    def target(self, rows: Sequence[Example]) -> dict[str, Tensor]:
        """{"label": int64 [rows]}."""
        return {"label": torch.tensor([self._label(row) for row in rows], dtype=torch.int64)}

    def _label(self, row: Example) -> int:
        found = self.place.get(str(row.sample.target).lower())
        if found is None:
            raise InputError(
                f"{row.sample.where}: '{row.sample.target}' is no answer of {self.name}; "
                f"those are {', '.join(self.classes)}."
            )
        return found

    def loss(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy, mean over rows."""
        return F.cross_entropy(logits.float(), target["label"])

    def scores(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """1 where the highest logit is the right one, else 0."""
        return (logits.argmax(-1) == target["label"]).float()

    def answers(self, logits: Tensor) -> list[str]:
        """The class of the highest logit."""
        return [self.labels[i] for i in logits.argmax(-1).tolist()]
