"""transformers' ViT: its names, fused attention, reducers inside its blocks. ViLT has its patches and its blocks."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from pumer_convert.models import attention
from pumer_convert.models.activations import FUNCTIONS
from pumer_convert.models.precision import Conv2d, LayerNorm, Linear
from pumer_convert.models.towers.bert import Pooler
from pumer_convert.models.towers.reduction import image_bias, reduce_image
from pumer_convert.models.towers.sections import VitPictures
from pumer_convert.models.towers.settings import Sizes
from pumer_convert.reducers.site import SiteReducers, Trace
from pumer_convert.tokens import Tokens


class BlockSettings(Sizes, Protocol):
    """What a block is built from."""

    @property
    def hidden_act(self) -> str: ...
    @property
    def hidden_dropout_prob(self) -> float: ...
    @property
    def attention_probs_dropout_prob(self) -> float: ...
    @property
    def layer_norm_eps(self) -> float: ...
    @property
    def qkv_bias(self) -> bool: ...


class PatchEmbeddings(nn.Module):
    """`pixels` [B, 3, H, W] -> states [B, N, C], row by row."""

    def __init__(self, c: int, patch: int, channels: int = 3) -> None:
        super().__init__()
        self.projection = Conv2d(channels, c, patch, patch)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.projection(pixels).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class SelfAttention(nn.Module):
    def __init__(self, c: int, bias: bool) -> None:
        super().__init__()
        self.query = Linear(c, c, bias=bias)
        self.key = Linear(c, c, bias=bias)
        self.value = Linear(c, c, bias=bias)


class Dense(nn.Module):
    """A linear layer under the name `dense`, as transformers has it."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.dense = Linear(inner, outer)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x)  # type: ignore[no-any-return]


class Attention(nn.Module):
    def __init__(self, c: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.attention = SelfAttention(c, bias)
        self.output = Dense(c, c)

    def projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B, H, N, D] of normed hidden states [B, N, C]."""
        parts = self.attention
        q, k, v = (attention.split_heads(f(x), self.heads) for f in (parts.query, parts.key, parts.value))
        return q, k, v


class Block(nn.Module):
    """A layer with its norms before attention and feed-forward, in parts: what reduces tokens stands between its
    halves."""

    def __init__(self, settings: BlockSettings) -> None:
        super().__init__()
        c, eps = settings.hidden_size, settings.layer_norm_eps
        self.attention = Attention(c, settings.num_attention_heads, settings.qkv_bias)
        self.attention_dropout = settings.attention_probs_dropout_prob
        self.activation = FUNCTIONS[settings.hidden_act]
        self.intermediate = Dense(c, settings.intermediate_size)
        self.output = Dense(settings.intermediate_size, c)
        self.layernorm_before = LayerNorm(c, eps=eps)
        self.layernorm_after = LayerNorm(c, eps=eps)
        self.dropout = nn.Dropout(settings.hidden_dropout_prob)

    def projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B, H, N, D] of hidden states [B, N, C]."""
        return self.attention.projected(self.layernorm_before(x))

    def mixed(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """What attention makes of them, [B, H, N, D]."""
        return attention.fused(q, k, v, bias, self.attention_dropout if self.training else 0.0)

    def attended(self, x: Tensor, mixed: Tensor) -> Tensor:
        """The states after the first half."""
        return x + self.dropout(self.attention.output(attention.join_heads(mixed)))  # type: ignore[no-any-return]

    def fed(self, x: Tensor) -> Tensor:
        """The states after the second half."""
        inner = self.activation(self.intermediate(self.layernorm_after(x)))
        return x + self.dropout(self.output(inner))  # type: ignore[no-any-return]


class PictureBlock(Block):
    """A layer of a tower for pictures."""

    def forward(self, image: Tokens, step: SiteReducers | None, trace: Trace) -> Tokens:
        """The layer; between its halves the tokens are reduced where there is a `step`."""
        bias, x = image_bias(image), image.states
        q, k, v = self.projected(x)
        image = image.with_states(self.attended(x, self.mixed(q, k, v, bias)))
        image = reduce_image(image, step, q, k, bias, trace)
        return image.with_states(self.fed(image.states))


class Embeddings(nn.Module):
    """`pixels` [B, 3, H, W] -> states [B, 1 + N, C] of CLS and the patches."""

    def __init__(self, settings: VitPictures, patches: int) -> None:
        super().__init__()
        c = settings.hidden_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, c))
        self.position_embeddings = nn.Parameter(torch.zeros(1, patches + 1, c))
        self.patch_embeddings = PatchEmbeddings(c, settings.patch_size)
        self.dropout = nn.Dropout(settings.hidden_dropout_prob)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch_embeddings(pixels)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], 1)
        return self.dropout(x + self.position_embeddings)  # type: ignore[no-any-return]


class VitTower(nn.Module):
    """ViT with its pooler."""

    def __init__(self, settings: VitPictures, patches: int) -> None:
        super().__init__()
        c = settings.hidden_size
        self.embeddings = Embeddings(settings, patches)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(PictureBlock(settings) for _ in range(settings.num_hidden_layers))
        self.layernorm = LayerNorm(c, eps=settings.layer_norm_eps)
        self.pooler = Pooler(c, FUNCTIONS[settings.pooler_act])

    def forward(
        self, pixels: Tensor, step: Callable[[str], SiteReducers | None], trace: Trace
    ) -> tuple[Tokens, Tensor]:
        """See `TwoTowerBody`."""
        x = self.embeddings(pixels)
        image = Tokens.start(x, torch.ones_like(x[..., 0], dtype=torch.bool), first=1)
        for i, block in enumerate(self.encoder.layer):  # type: ignore[arg-type]
            image = block(image, step(f"vision.{i}"), trace)
        image = image.with_states(self.layernorm(image.states))
        return image, self.pooler(image)
