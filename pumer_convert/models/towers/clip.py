"""CLIP's vision transformer with the original's names, reducers inside its blocks."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pumer_convert.models import attention
from pumer_convert.models.activations import quick_gelu
from pumer_convert.models.precision import Conv2d, LayerNorm, Linear, like
from pumer_convert.models.towers.reduction import image_bias, reduce_image
from pumer_convert.models.towers.settings import ClipSettings
from pumer_convert.reducers.site import SiteReducers, Trace
from pumer_convert.tokens import Tokens


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return quick_gelu(x)


class PackedAttention(nn.Module):
    """Self-attention with one matrix for queries, keys and values, as CLIP stores it. Gives also the queries and keys,
    which reducers ask for."""

    def __init__(self, c: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * c, c))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * c))
        self.out_proj = Linear(c, c)

    def forward(self, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        packed = F.linear(like(x, self.in_proj_weight), self.in_proj_weight, self.in_proj_bias)
        q, k, v = (attention.split_heads(part, self.heads) for part in packed.chunk(3, -1))
        return self.out_proj(attention.join_heads(attention.fused(q, k, v, bias))), q, k


class VisionBlock(nn.Module):
    def __init__(self, settings: ClipSettings) -> None:
        super().__init__()
        c, wide, eps = settings.hidden_size, settings.intermediate_size, settings.layer_norm_eps
        self.attn = PackedAttention(c, settings.num_attention_heads)
        self.ln_1, self.ln_2 = LayerNorm(c, eps=eps), LayerNorm(c, eps=eps)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", Linear(c, wide))
        self.mlp.add_module("gelu", QuickGELU())
        self.mlp.add_module("c_proj", Linear(wide, c))

    def forward(self, image: Tokens, step: SiteReducers | None, trace: Trace) -> Tokens:
        bias = image_bias(image)
        mixed, q, k = self.attn(self.ln_1(image.states), bias)
        image = reduce_image(image.with_states(image.states + mixed), step, q, k, bias, trace)
        return image.with_states(image.states + self.mlp(self.ln_2(image.states)))


class VisionTower(nn.Module):
    """CLIP's vision transformer; `pixels` [B, 3, H, W] -> Tokens [B, N, C].

    A reduction stands inside the block, between attention and feed-forward, and goes by the block's own keys (ToMe,
    section 3).
    """

    def __init__(self, settings: ClipSettings, patch: int, patches: int) -> None:
        super().__init__()
        c, eps = settings.hidden_size, settings.layer_norm_eps
        self.class_embedding = nn.Parameter(torch.zeros(c))
        self.positional_embedding = nn.Parameter(torch.zeros(patches + 1, c))
        self.conv1 = Conv2d(3, c, patch, patch, bias=False)
        self.ln_pre, self.ln_post = LayerNorm(c, eps=eps), LayerNorm(c, eps=eps)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(VisionBlock(settings) for _ in range(settings.num_hidden_layers))

    def forward(self, pixels: Tensor, step: Callable[[str], SiteReducers | None], trace: Trace) -> Tokens:
        """`step` gives the reducers at a site, "vision.i"."""
        x = self.conv1(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(x.shape[0], 1, -1)
        x = self.ln_pre(torch.cat([first, x], 1) + self.positional_embedding)
        image = Tokens.start(x, torch.ones_like(x[..., 0], dtype=torch.bool), first=1)
        for i, block in enumerate(self.transformer.resblocks):  # type: ignore[arg-type]
            image = block(image, step(f"vision.{i}"), trace)
        return image.with_states(self.ln_post(image.states))
