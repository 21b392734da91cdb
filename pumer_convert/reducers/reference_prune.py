"""Pruning as in the published PuMer code, quirks included (`semantics: reference`)."""

from typing import ClassVar

import torch
from torch import Tensor

from pumer_convert.reducers.base import BaseReducer, Guide, Reduction, how_many, in_order
from pumer_convert.reducers.prune import EPSILON, taken
from pumer_convert.tokens import Tokens, gather


class ReferencePruneReducer(BaseReducer):
    """Keeps the most relevant image tokens in descending order of relevance; CLS competes like any other.

    The published code has no mask here: image tokens are never padding.
    """

    function = "PruneReference"

    inputs = ("states", "keys", "relevance")
    outputs: ClassVar = {"kept_states": "states", "kept_keys": "keys", "index": None}
    counts = how_many("least = Min (spare0, n)")
    statements = """
        scores, index = TopK <axis = 1, largest = 1, sorted = 1> (relevance, k)
        rows = Unsqueeze (index, minus_one)
        kept_states = GatherND <batch_dims = 1> (states, rows)
        kept_keys = GatherND <batch_dims = 1> (keys, rows)
    """

    def forward(self, tokens: Tokens, guide: Guide) -> Reduction:
        """Prune by `guide.relevance` [B, N]; `tokens.keys` follow the tokens."""
        if guide.relevance is None or tokens.keys is None:
            raise ValueError("pruning needs the relevance of the tokens and their keys")
        n = tokens.states.shape[1]
        k = self.left(n, n, 0)
        if torch.onnx.is_in_onnx_export():
            states, keys, b = tokens.states, tokens.keys, tokens.states.shape[0]
            out = self.call(
                0,
                (states, keys, guide.relevance),
                (states.dtype, keys.dtype, torch.int64),
                ((b, k, states.shape[2]), (b, k, keys.shape[2]), (b, k)),
            )
            return Reduction(taken(tokens, out[2], out[0], out[1], tokens.mask[:, :k]), out[2])
        index, slack = guide.decision, None
        if index is None:
            index = in_order(guide.relevance)[:, : int(k)]
        else:
            slack = _slack(guide.relevance, index)
        states, keys = gather(tokens.states, index), gather(tokens.keys, index)
        return Reduction(taken(tokens, index, states, keys, tokens.mask[:, : index.shape[1]]), index, slack)


def _slack(scores: Tensor, index: Tensor) -> Tensor:
    """How far the given order is from a descending one: its largest rise, or the lead of one left out; as a share of
    the highest score."""
    given = scores.gather(1, index)
    rise = (given[:, 1:] - given[:, :-1]).clamp(min=0).amax(1) if index.shape[1] > 1 else given[:, 0] * 0
    left = scores.scatter(1, index, -torch.inf).amax(1)
    return torch.maximum(rise, (left - given.amin(1)).clamp(min=0)) / scores.amax(1).clamp(min=EPSILON)
