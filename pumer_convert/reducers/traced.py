"""Lengths in a traced graph: what a reducer leaves is a symbol of its own, and no formula of the length that came in.

Formulas of formulas, each with its rounding and its limits, make tracing take minutes after two reductions and hours
after three.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch._dynamo.source import ConstantSource
from torch.fx.experimental.symbolic_shapes import DimDynamic

from pumer_convert.tokens import Tokens

_NUMBERS = itertools.count()


@torch.library.custom_op("pumer::renew", mutates_args=())
def renew(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same tensors [B, N, ...]; where a graph is traced, N of the results is a new symbol. In the ONNX graph it is
    nothing at all."""
    return [tensor.clone() for tensor in tensors]


RENEW = torch.ops.pumer.renew.default
"""The operator as the exporter knows it."""


@renew.register_fake
def _traced(tensors: Sequence[Tensor]) -> list[Tensor]:
    length = tensors[0].shape[1]
    if isinstance(length, torch.SymInt):
        shapes, hint = length.node.shape_env, length.node.hint
        source = ConstantSource(f"left_{next(_NUMBERS)}")
        symbol = shapes.create_symbol(hint, source=source, dynamic_dim=DimDynamic.DYNAMIC, constraint_dim=None)
        length = shapes.create_symintnode(symbol, hint=hint, source=source)
    return [t.new_empty((t.shape[0], length, *t.shape[2:])) for t in tensors]


def renewed(tokens: Tokens) -> Tokens:
    """Reduced tokens in a trace, their length renewed."""
    fields = {name: value for name, value in vars(tokens).items() if isinstance(value, Tensor) and name != "source"}
    return replace(tokens, **dict(zip(fields, renew(list(fields.values())), strict=True)))
