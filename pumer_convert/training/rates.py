"""Which parameters learn how fast: the published rates, groups of parameters, warm-up and decay."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pumer_convert.recipe.settings import DistillSettings

BETAS = (0.9, 0.98)
"""Of AdamW, as in ViLT, METER and PuMer."""

HEADS = ("classifier.", "rank_output.", "vqa_classifier.", "snli_classifier.", "nlvr2_classifier.")
CROSS_MODAL = ("cross_modal_",)
"""How the names of parameters begin; METER has cross-modal ones, ViLT has not."""


@dataclass(frozen=True)
class Rates:
    """The learning rate of the body, and how many times as high it is in the head and the cross-modal layers."""

    body: float
    head: float
    cross_modal: float


PUBLISHED = {
    ("vilt", "vqa"): Rates(1e-4, 10, 1),
    ("vilt", "nlvr2"): Rates(1e-4, 10, 1),
    ("vilt", "ve"): Rates(1e-4, 10, 1),
    ("vilt", "retrieval"): Rates(1e-4, 1, 1),
    ("meter", "vqa"): Rates(5e-6, 50, 5),
    ("meter", "nlvr2"): Rates(5e-6, 50, 5),
    ("meter", "ve"): Rates(2e-6, 10, 5),
    ("meter", "retrieval"): Rates(5e-6, 5, 5),
}
"""PuMer's; for retrieval, which it gives no rates for, those of ViLT's and METER's own configurations."""


def rates_of(settings: DistillSettings, family: str, task: str) -> Rates:
    """What the settings say, the published values where they say nothing."""
    published = PUBLISHED[family, task]
    return Rates(
        settings.learning_rate or published.body,
        settings.head_multiplier or published.head,
        settings.cross_modal_multiplier or published.cross_modal,
    )


def groups(named: Iterable[tuple[str, nn.Parameter]], rates: Rates, weight_decay: float) -> list[dict[str, Any]]:
    """The groups of an optimiser; "rate" of each is the peak that `factor` is multiplied with.

    Biases, norms and other vectors are not decayed.
    """
    found: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in named:
        rate = rates.body
        if name.startswith(HEADS):
            rate *= rates.head
        elif name.startswith(CROSS_MODAL):
            rate *= rates.cross_modal
        decay = 0.0 if parameter.dim() < 2 else weight_decay
        found.setdefault((rate, decay), []).append(parameter)
    return [{"params": p, "lr": rate, "rate": rate, "weight_decay": decay} for (rate, decay), p in found.items()]


def factor(step: int, steps: int, warmup: float) -> float:
    """What the rates are multiplied with at `step` (from 0): it rises over the first share `warmup`, then falls to 0.

    A function of the step alone, so that nothing of it needs to be saved.
    """
    rising = round(steps * warmup)
    if step < rising:
        return (step + 1) / (rising + 1)
    return (steps - step) / max(steps - rising, 1)
