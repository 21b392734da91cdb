"""CLIP's tower of pictures under transformers' names."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pumer_convert.models.precision import LayerNorm
from pumer_convert.models.towers.embeddings import PatchEmbeddings
from pumer_convert.models.towers.encoder import Encoder, Probe
from pumer_convert.models.towers.sections import ClipPictures
from pumer_convert.reducers.site import SiteReducers, Trace
from pumer_convert.tokens import Tokens


class ClipTower(nn.Module):
    """What it pools is its CLS, normed; nothing where it is not `pooled`."""

    def __init__(self, settings: ClipPictures, patches: int, *, pooled: bool = True) -> None:
        super().__init__()
        c, eps = settings.hidden_size, settings.layer_norm_eps
        self.embeddings = PatchEmbeddings(c, settings.patch_size, patches, cls=True, bias=False)
        self.pre_layrnorm = LayerNorm(c, eps=eps)
        self.encoder = Encoder(settings)
        if pooled:
            self.post_layernorm = LayerNorm(c, eps=eps)

    def tokens(
        self,
        pixels: Tensor,
        step: Callable[[str], SiteReducers | None],
        trace: Trace,
        probe: Probe | None = None,
    ) -> Tokens:
        """CLS and the patches behind the last block; see `Encoder.of_image`."""
        x = self.pre_layrnorm(self.embeddings(pixels))
        image = Tokens.start(x, torch.ones_like(x[..., 0], dtype=torch.bool), first=1)
        return self.encoder.of_image(image, step, trace, probe)

    def forward(
        self, pixels: Tensor, step: Callable[[str], SiteReducers | None], trace: Trace
    ) -> tuple[Tokens, Tensor]:
        """See `TwoTowerBody`."""
        image = self.tokens(pixels, step, trace)
        return image, self.post_layernorm(image.states[:, 0])
