"""A codebook that patches and words ask for codes, whose weighted sum is the embedding: the finite discrete tokens of
CLIP+FDT (Chen et al., CVPR 2023, section 3)."""

import math

import torch
from torch import Tensor, nn

from pumer_convert.models.precision import LayerNorm, Linear, like
from pumer_convert.models.towers.settings import Codebook

ROUNDS = 16
"""Of `sparsemax`: scores of 16384 codes have needed 10 at most, of any distribution and temperature tried."""


class Query(nn.Module):
    """What states [..., C] ask a codebook of codes [M, D] for: [..., D]."""

    def __init__(self, c: int, d: int) -> None:
        super().__init__()
        self.q_map = nn.Sequential(LayerNorm(c), Linear(c, d), nn.GELU(), LayerNorm(d), Linear(d, d))

    def forward(self, x: Tensor) -> Tensor:
        return self.q_map(x)  # type: ignore[no-any-return]


def sparsemax(scores: Tensor) -> Tensor:
    """The point of the simplex that is nearest to `scores` [..., M] (Martins and Astudillo, ICML 2016).

    Without sorting, of which TensorRT takes 3840 numbers at most: the threshold is that of all scores less than 1 below
    the largest at first, then of those above it, until these stay the same for good (Michelot, 1986).
    """
    z = scores - scores.amax(-1, keepdim=True)
    inside = (z > -1).to(z.dtype)
    for _ in range(ROUNDS):
        threshold = ((z * inside).sum(-1, keepdim=True) - 1) / inside.sum(-1, keepdim=True)
        inside = (z > threshold).to(z.dtype)
    return (z - threshold).clamp(min=0)


class Reading:
    """How a codebook is read; its codes [M, D] are given."""

    def __init__(self, settings: Codebook) -> None:
        self.pool, self.attention = settings.pool, settings.attention
        self.temperature, self.width = settings.temperature, settings.width

    def weights(self, scores: Tensor) -> Tensor:
        """The weights of codes with these scores [..., M]."""
        if self.attention == "sparsemax":
            return sparsemax(scores)
        return scores.sigmoid() if self.attention == "sigmoid" else scores.softmax(-1)

    def scaled(self, products: Tensor) -> Tensor:
        """Scores of products, in float32 or more exactly."""
        exact = torch.promote_types(products.dtype, torch.float32)
        return products.to(exact) / (math.sqrt(self.width) * self.temperature)

    def scores(self, q: Tensor, codes: Tensor, sizes: Tensor | None, places: int | None = None) -> Tensor:
        """The scores [B, M] of `codes` [M, D] in the tokens that ask for `q` [B, N, D]. Of `places`, so many count as
        there are in all, and those where no token is, of size 0, score 0; else each counts `sizes` [B, N] times, None:
        once."""
        if self.pool != "max":  # a sum of products is the product of a sum
            exact = torch.promote_types(q.dtype, torch.float32)
            total = (q if sizes is None else q * sizes[..., None]).to(exact).sum(1)
            if self.pool == "mean":
                total = total / (places or (q.shape[1] if sizes is None else sizes.sum(1, keepdim=True)))
            return self.scaled(like(total, codes) @ codes.T)
        products = like(q, codes) @ codes.T
        if sizes is None or places is None:
            return self.scaled(products.amax(1))
        products = products.masked_fill(sizes[..., None] == 0, torch.finfo(products.dtype).min)
        best, short = products.amax(1), sizes.sum(1, keepdim=True) < places
        return self.scaled(torch.where(short, best.clamp(min=0), best))

    def embedding(self, scores: Tensor, codes: Tensor) -> Tensor:
        """What codes of these scores [B, M] sum up to, [B, D], of any length. The largest weight is 1: half precision
        has no numbers for many small ones."""
        taken = self.weights(scores)
        return like(taken / taken.amax(-1, keepdim=True), codes) @ codes

    def takes(self, q: Tensor, codes: Tensor) -> Tensor:
        """What a codebook that is read by its strongest tokens takes from each, [B, N] float32: the weights of the
        codes that are strongest in it, and less than nothing where there are none, the less the farther it is from
        being strongest in one that counts."""
        scores = self.scaled(like(q, codes) @ codes.T)
        best = scores.amax(1)
        taken = self.weights(best)[:, None]
        places = torch.arange(scores.shape[1], device=scores.device)
        # by number, for a score that is computed twice may not be equal to itself
        won = torch.where(scores.argmax(1)[:, None] == places[:, None], taken, 0).sum(2)
        short = torch.where(taken > 0, scores - best[:, None], torch.finfo(scores.dtype).min).amax(2)
        return (won + short).float()
