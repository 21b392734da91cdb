"""The settings of a distillation, each with its default and rule, for recipes and programs alike."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.rules import Rule, setting


@dataclass(frozen=True)
class Augment:
    """RandAugment: `number` changes of a training picture, each at `magnitude` of 30 (data/augment.py)."""

    number: int = setting(2, int, least=1)
    magnitude: int = setting(9, int, most=30)

    def __post_init__(self) -> None:
        _check(self, "augment.")


@dataclass(frozen=True)
class DistillSettings:
    """The settings of a distillation; the defaults are those of PuMer's training (ACL 2023), shortened.

    epochs                  passes over the training samples.
    batch_size              rows of one optimiser step, over all processes and accumulation steps: the result does
                            not depend on how many machines share them.
    accumulation            parts of a batch that go through the model one after the other, to save memory.
    learning_rate           of the body; None: the published one of the family and task (training/rates.py).
    head_multiplier         the head's rate is this times as high; None as above.
    cross_modal_multiplier  the same of METER's fusion layers.
    weight_decay            of matrices and tables; biases and norms have none.
    warmup                  the share of the steps in which the rate rises; behind it it falls linearly to 0.
    clip                    the largest norm of a gradient; None: any.
    kd                      the weight of KL(teacher || student) beside the task's loss; 0: no teacher is needed.
                            Of two towers it is between the similarities of a batch's pictures and captions, of a
                            vision part the share that is lacking of the teacher's tokens (training/features.py).
    temperature             of both softmaxes in that term; of two towers beside their own.
    cosine                  of two towers and of vision parts: the weight of 1 - the cosine of embeddings to the
                            teacher's; None: 1.
    contrastive             of two towers: the weight of the contrastive loss of pictures and captions; None: off.
    hidden                  the weight of the hidden-state term (training/loss.py); 0: off.
    ema                     decay of an average of the weights that is validated and kept instead; None: off.
    ramp                    the share of the steps over which the reducers' amounts grow to their full size; 0: off.
    amp                     arithmetic of the forward pass: no (float32), bf16 or fp16.
    augment                 RandAugment of the training pictures; None: off.
    candidates              lines of a query, in retrieval.
    keep                    which weights are written: the best of the validations (the last without one), or last.
    validate_every          steps between validations; None: after each epoch.
    save_every              steps between states that training can be resumed from.
    seed                    of order, augmentation and dropout.
    """

    epochs: int = setting(3, int, least=1)
    batch_size: int = setting(32, int, least=1)
    accumulation: int = setting(1, int, least=1)
    learning_rate: float | None = setting(None, float, above=True)
    head_multiplier: float | None = setting(None, float, above=True)
    cross_modal_multiplier: float | None = setting(None, float, above=True)
    weight_decay: float = setting(0.01, float)
    warmup: float = setting(0.1, float, most=1, below=True)
    clip: float | None = setting(None, float, above=True)
    kd: float = setting(1.0, float)
    temperature: float = setting(1.0, float, above=True)
    cosine: float | None = setting(None, float)
    contrastive: float | None = setting(None, float)
    hidden: float = setting(0.0, float)
    ema: float | None = setting(None, float, above=True, most=1, below=True)
    ramp: float = setting(0.0, float, most=1)
    amp: str = setting("no", words=("no", "bf16", "fp16"))
    augment: Augment | None = None
    candidates: int = setting(16, int, least=2)
    keep: str = setting("best", words=("best", "last"))
    validate_every: int | None = setting(None, int, least=1)
    save_every: int = setting(500, int, least=1)
    seed: int = setting(0, int)

    def __post_init__(self) -> None:
        _check(self)

    @property
    def teaches(self) -> bool:
        """Whether there is a term that needs the teacher."""
        return self.kd > 0 or self.hidden > 0

    def replaced(self, values: Mapping[str, Any]) -> "DistillSettings":
        """With these values instead; None leaves one as it is. Raises InputError for a value that is not allowed."""
        return dataclasses.replace(self, **{name: value for name, value in values.items() if value is not None})

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the order above."""
        return dataclasses.asdict(self)


RULES: dict[str, Rule] = {f.name: f.metadata["rule"] for f in dataclasses.fields(DistillSettings) if f.metadata}
"""What every setting but `augment` may be."""
AUGMENT_RULES: dict[str, Rule] = {f.name: f.metadata["rule"] for f in dataclasses.fields(Augment)}


def _check(settings: Any, prefix: str = "") -> None:
    for part in dataclasses.fields(settings):
        value, rule = getattr(settings, part.name), part.metadata.get("rule")
        if rule is not None and not rule.holds(value):
            raise InputError(f"{prefix}{part.name} cannot be {value!r}; allowed: {rule.allowed}.")
