"""Pruning that looks at nothing: a baseline for pruning that does."""

import torch
from torch import Tensor

from pumer_convert.reducers.base import Guide
from pumer_convert.reducers.prune import PruneReducer
from pumer_convert.tokens import Tokens

PRIME = 46_337
"""Its square is below 2^31, so that the arithmetic is exact even where a runtime narrows int64 to int32."""


class RandomPruneReducer(PruneReducer):
    """Prunes by a fixed arbitrary score of every position, the same for every example and in every runtime."""

    def scores(self, tokens: Tokens, guide: Guide) -> Tensor:
        """The scores of the positions, [B, N] float32; the tokens are not looked at."""
        positions = torch.arange(tokens.states.shape[1], device=tokens.states.device)
        return arbitrary(positions).expand(tokens.states.shape[:2])


def arbitrary(positions: Tensor) -> Tensor:
    """A pseudo-random score from 0 to below 1 of every position: int64 [N] -> float32 [N].

    Cubing permutes the residues of `PRIME` (3 does not divide PRIME - 1), so that different positions never tie.
    """
    x = positions + 1
    for shift in (11_213, 23_209, 37_156):
        x = (x * x % PRIME * x + shift) % PRIME
    return x.float() / PRIME
