"""Amounts that grow: reducers take little at the start of training and their full share after a part of it."""

from dataclasses import replace

from torch import nn

from pumer_convert.amount import UNLIMITED
from pumer_convert.errors import InputError
from pumer_convert.reducers.base import BaseReducer

LEVELS = 10
"""Amounts grow in this many steps of the same size."""


class Ramp:
    """The reducers of a model with their full amounts; they grow over the first `share` of `steps`.

    Raises InputError for a reducer that keeps a number of tokens, which has no smaller form of the same kind.
    """

    def __init__(self, model: nn.Module, share: float, steps: int) -> None:
        self.rising = round(share * steps)
        self.full = [(m, m.amount) for m in model.modules() if isinstance(m, BaseReducer)]
        if self.rising and any(amount.keep != UNLIMITED for _, amount in self.full):
            raise InputError("a ramp needs shares or `drop`; the recipe has a `keep`, which cannot grow.")

    def set(self, step: int | None) -> None:
        """The amounts of `step` (from 0); the full ones for None."""
        level = LEVELS
        if step is not None and step < self.rising:
            level = LEVELS * step // self.rising
        for reducer, amount in self.full:
            if level == LEVELS:
                reducer.amount = amount
            else:
                reducer.amount = replace(
                    amount, num=amount.num * level, den=amount.den * LEVELS, drop=amount.drop * level // LEVELS
                )
