"""Lengths in a traced graph: what a reducer leaves is a symbol of its own, and no formula of the length that came in.

Formulas of formulas, each with its rounding and its limits, make tracing take minutes after two reductions and hours
after three.
"""

import itertools

import torch
from torch import Tensor
from torch._dynamo.source import ConstantSource
from torch.fx.experimental.symbolic_shapes import DimDynamic

from pumer_convert.tokens import Tokens

_NUMBERS = itertools.count()


@torch.library.custom_op("pumer::renew", mutates_args=())
def renew(states: Tensor, size: Tensor, mask: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same tensors [B, N, ...]; where a graph is traced, N of the results is a new symbol. In the ONNX graph it is
    nothing at all."""
    return states.clone(), size.clone(), mask.clone(), keys.clone()


RENEW = torch.ops.pumer.renew.default
"""The operator as the exporter knows it."""


@renew.register_fake
def _traced(states: Tensor, size: Tensor, mask: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
    length = states.shape[1]
    if isinstance(length, torch.SymInt):
        shapes, hint = length.node.shape_env, length.node.hint
        source = ConstantSource(f"left_{next(_NUMBERS)}")
        symbol = shapes.create_symbol(hint, source=source, dynamic_dim=DimDynamic.DYNAMIC, constraint_dim=None)
        length = shapes.create_symintnode(symbol, hint=hint, source=source)
    return tuple(t.new_empty((t.shape[0], length, *t.shape[2:])) for t in (states, size, mask, keys))


def renewed(tokens: Tokens) -> Tokens:
    """Reduced tokens in a trace, their length renewed; a source map they have none."""
    keys = tokens.size if tokens.keys is None else tokens.keys
    states, size, mask, keys = renew(tokens.states, tokens.size, tokens.mask, keys)
    return Tokens(states, mask, size, None, None if tokens.keys is None else keys)
