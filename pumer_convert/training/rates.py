"""Which parameters learn how fast: the published rates, groups of parameters, warm-up and decay."""

from typing import Any

from torch import Tensor, nn

from pumer_convert.models.family import family_of
from pumer_convert.models.rates import UNPUBLISHED, Rates
from pumer_convert.recipe.settings import DistillSettings

BETAS = (0.9, 0.98)
"""Of AdamW, as in ViLT, METER and PuMer."""


def rates_of(settings: DistillSettings, family: str, task: str) -> Rates:
    """What the settings say, the published values where they say nothing."""
    published = family_of(family).rates.get(task, UNPUBLISHED)
    return Rates(
        settings.learning_rate or published.body,
        settings.head_multiplier or published.head,
        settings.cross_modal_multiplier or published.cross_modal,
    )


def groups(model: nn.Module, rates: Rates, weight_decay: float) -> list[dict[str, Any]]:
    """The groups of an optimiser for a family's network; "rate" of each is the peak that `factor` is multiplied with.

    Biases, norms and other vectors are not decayed; parameters without a gradient stand still.
    """
    config: Any = model.config
    family = family_of(config["model_type"])
    found: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = rates.body
        if name.startswith(family.heads):
            rate *= rates.head
        elif name.startswith(family.cross_modal):
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
