"""Pruning that looks at nothing: a baseline for pruning that does."""

from dataclasses import replace

import torch
from torch import Tensor

from pumer_convert.reducers import prune
from pumer_convert.reducers.base import Guide, Reduction
from pumer_convert.tokens import Tokens

PRIME = 46_337
"""Its square is below 2^31, so that the arithmetic is exact even where a runtime narrows int64 to int32."""


class Reducer(prune.Reducer):
    """Prunes by a fixed arbitrary score of every position, the same for every example and in every runtime."""

    def forward(self, tokens: Tokens, guide: Guide) -> Reduction:
        """Prune; `tokens.keys` follow the tokens, `guide.relevance` is not looked at."""
        positions = torch.arange(tokens.states.shape[1], device=tokens.states.device)
        scores = arbitrary(positions).expand(tokens.states.shape[:2])
        return super().forward(tokens, replace(guide, relevance=scores))


def arbitrary(positions: Tensor) -> Tensor:
    """A pseudo-random score from 0 to below 1 of every position: int64 [N] -> float32 [N].

    Cubing permutes the residues of `PRIME` (3 does not divide PRIME - 1), so that different positions never tie.
    """
    x = positions + 1
    for shift in (11_213, 23_209, 37_156):
        x = (x * x % PRIME * x + shift) % PRIME
    return x.float() / PRIME
