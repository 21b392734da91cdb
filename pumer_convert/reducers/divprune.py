"""Pruning for diversity: what is kept are tokens that lie far from each other (DivPrune, Alvar et al., CVPR 2025).

Written from the paper's definition: the set whose smallest distance between two members is largest, found greedily. The
first is the token that is farthest from the one nearest to it; then again and again the one that is farthest from the
nearest of those chosen. Distances are 1 - cosine.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pumer_convert.reducers.base import Guide
from pumer_convert.reducers.greedy import GreedyReducer, picking
from pumer_convert.tokens import Tokens

FAR = 4.0
"""Above every distance."""


class DivPruneReducer(GreedyReducer):
    """A token is worth its distance from the nearest of those picked; as the first, from the nearest of all."""

    function = "DivPrune"

    inputs = ("states", "keys", "mask", "frozen")
    statements = picking(
        setup=f"""
        far = Constant <value = float[1] {{{FAR}}}> ()
        distance = Sub (one32, cosine)
        column = Unsqueeze (every, one)
        self_pair = Equal (every, column)
        valid = Unsqueeze (mask, one)
        other = Where (self_pair, far, distance)
        others = Where (valid, other, far)
        lone_row = ReduceMin <keepdims = 0> (others, two)
        lone = Unsqueeze (lone_row, one)
        near = Add (zeros, far)
        """,
        score="""
                is_first = Equal (i, zero0)
                score = Where (is_first, lone, near_in)
        """,
        update="""
                away = Sub (one32, row)
                near_out = Min (near_in, away)
        """,
        state={"near": "b, one_row, n"},
    )

    def asked(self, tokens: Tokens, guide: Guide) -> tuple[Tensor, ...]:
        """See `PruneReducer`: the tokens are enough."""
        return ()

    def start(self, cosine: Tensor, tokens: Tokens, guide: Guide, k: int) -> Sequence[Tensor]:
        """See `GreedyReducer`: the distances from the nearest of all, and from the nearest picked."""
        every = torch.arange(cosine.shape[2], device=cosine.device)
        others = torch.where(tokens.mask[:, None] & (every != every[:, None]), 1 - cosine, FAR)
        return others.amin(2), torch.full_like(cosine[:, 0], FAR)

    def score(self, state: Sequence[Tensor], number: int) -> Tensor:
        """See `GreedyReducer`."""
        return state[min(number, 1)]

    def update(self, state: Sequence[Tensor], row: Tensor, place: Tensor, number: int) -> Sequence[Tensor]:
        """See `GreedyReducer`."""
        return state[0], torch.minimum(state[1], 1 - row)
