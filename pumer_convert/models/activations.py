"""The activations that a config may name (`values.ACTIVATIONS`): element by element, as transformers computes them."""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor


def clipped_gelu(x: Tensor) -> Tensor:
    """GELU between -10 and 10."""
    return F.gelu(x).clamp(-10, 10)


def laplace(x: Tensor) -> Tensor:
    """MEGA's (Ma et al. 2022): the distribution function of a normal variable."""
    return 0.5 * (1 + torch.erf((x - 0.707107) / (0.282095 * math.sqrt(2))))


def linear(x: Tensor) -> Tensor:
    """None."""
    return x


def quick_gelu(x: Tensor) -> Tensor:
    """CLIP's approximation of GELU."""
    return x * torch.sigmoid(1.702 * x)


def squared_relu(x: Tensor) -> Tensor:
    """Primer's (So et al. 2021)."""
    return F.relu(x).square()


def root_of_softplus(x: Tensor) -> Tensor:
    """The square root of softplus."""
    return F.softplus(x).sqrt()


_tanh_gelu = partial(F.gelu, approximate="tanh")
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_10": clipped_gelu,
    "gelu_accurate": _tanh_gelu,
    "gelu_fast": _tanh_gelu,
    "gelu_new": _tanh_gelu,
    "gelu_python": F.gelu,
    "gelu_python_tanh": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
    "hardswish": F.hardswish,
    "laplace": laplace,
    "leaky_relu": F.leaky_relu,
    "linear": linear,
    "mish": F.mish,
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "relu2": squared_relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "sqrtsoftplus": root_of_softplus,
    "swish": F.silu,
    "tanh": torch.tanh,
}
