"""The codebook of CLIP+FDT (Chen et al., CVPR 2023, section 3): patches and words ask it for codes, whose weighted sum
is the embedding."""

from torch import Tensor, nn

from pumer_convert.models.precision import LayerNorm, Linear

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


def weights(scores: Tensor, attention: str) -> Tensor:
    """The weights of codes with these scores [..., M], by the kind of `attention`."""
    if attention == "sparsemax":
        return sparsemax(scores)
    return scores.sigmoid() if attention == "sigmoid" else scores.softmax(-1)
