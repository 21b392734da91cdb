"""Pruning at even distances: what thinning out the grid of patches would leave, a baseline for pruning that looks."""

from torch import Tensor

from pumer_convert.reducers.base import Guide
from pumer_convert.reducers.prune import PruneReducer
from pumer_convert.tokens import Tokens


class UniformPruneReducer(PruneReducer):
    """Of n tokens that may go it keeps k at even distances: token i where (i + 1) k / n rounds to another number than
    i k / n, a half upwards."""

    def scores(self, tokens: Tokens, guide: Guide) -> Tensor:
        """1 for what is kept and 0 for the rest, [B, N] float32; the states are not looked at."""
        free = (tokens.mask & ~tokens.held).long()
        k = (self.kept(tokens) - (tokens.mask & tokens.held).sum(1))[:, None].clamp(min=0)
        return spaced(free.cumsum(1), free.sum(1, keepdim=True), k)


def spaced(place: Tensor, n: Tensor, k: Tensor) -> Tensor:
    """1 for `k` of n tokens, at even distances, and 0 for the rest: [B, N] float32, of their places from 1 on."""
    n = n.clamp(min=1)
    return (_rounded(place * k, n) - _rounded((place - 1) * k, n)).float()


def _rounded(number: Tensor, by: Tensor) -> Tensor:
    """number / by as the nearest integer, a half upwards; for numbers from -by / 2."""
    return (2 * number + by) // (2 * by)
