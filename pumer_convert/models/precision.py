"""Layers of a network whose parts may be of two types: some kept in float32 while the others are in half precision.

Matrices compute in the type of their weights, and a sum of both types is float32 as torch has it. So what a layer that
is kept in float32 adds to the hidden states stays whole in all that follows, beyond what half precision can hold.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def like(x: Tensor, weight: Tensor) -> Tensor:
    """`x` in the type of a weight that it is multiplied with."""
    if x.dtype == weight.dtype or torch.is_autocast_enabled(x.device.type):  # which casts on its own
        return x
    return x.to(weight.dtype)


class Linear(nn.Linear):
    """Computes in the type of its weights."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., C] -> [..., C']."""
        return super().forward(like(input, self.weight))


class Conv2d(nn.Conv2d):
    """Computes in the type of its weights."""

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        return super().forward(like(input, self.weight))


class LayerNorm(nn.LayerNorm):
    """Computes in the type of its weights or of the states, whichever is more precise."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., C] -> [..., C]."""
        if input.dtype == self.weight.dtype:
            return super().forward(input)
        exact = torch.promote_types(input.dtype, self.weight.dtype)
        weight, bias = self.weight.to(exact), self.bias.to(exact)
        return F.layer_norm(input.to(exact), self.normalized_shape, weight, bias, self.eps)


class RmsNorm(nn.Module):
    """Over the last axis, in float32 or more; the weight is added to `base`."""

    def __init__(self, width: int, eps: float, base: float = 0.0) -> None:
        super().__init__()
        self.weight, self.eps, self.base = nn.Parameter(torch.full((width,), 1 - base)), eps, base

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., C]."""
        exact = torch.promote_types(x.dtype, torch.float32)
        y = x.to(exact)
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)
        return (y * (self.base + self.weight.to(exact))).to(x.dtype)
