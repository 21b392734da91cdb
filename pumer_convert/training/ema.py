"""A moving average of the weights, which is often a little better than the last ones."""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


class Average:
    """The exponential moving average of a model's parameters, on their device."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after `step` (from 1). Early on the average is short, so that it does not remember
        the untrained weights."""
        share = 1 - min(self.decay, step / (step + 10))
        for name, parameter in model.named_parameters():
            self.values[name].lerp_(parameter, share)

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor]) -> None:
        """Go on from a saved average."""
        for name, value in self.values.items():
            value.copy_(values[name])

    @contextlib.contextmanager
    def inside(self, model: nn.Module) -> Iterator[None]:
        """The model has the average as its weights inside, its own ones again behind."""
        with torch.no_grad():
            own = {name: p.detach().clone() for name, p in model.named_parameters()}
            for name, parameter in model.named_parameters():
                parameter.copy_(self.values[name])
            try:
                yield
            finally:
                for name, parameter in model.named_parameters():
                    parameter.copy_(own[name])
