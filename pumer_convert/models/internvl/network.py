"""The vision part of InternVL: transformers' names, fused attention."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pumer_convert.models import attention
from pumer_convert.models.activations import FUNCTIONS
from pumer_convert.models.internvl.config import InternVLPictures, InternVLSettings
from pumer_convert.models.precision import LayerNorm, Linear, RmsNorm
from pumer_convert.models.towers.encoder import Halves, Mlp
from pumer_convert.models.towers.vision_part_network import Tower, VisionPartBody
from pumer_convert.models.towers.vit import PatchEmbeddings


class Embeddings(nn.Module):
    """`pixels` [B, 3, H, W] -> states [B, 1 + N, C] of CLS and the patches."""

    def __init__(self, settings: InternVLPictures, patches: int) -> None:
        super().__init__()
        c, placed = settings.hidden_size, settings.use_absolute_position_embeddings
        self.cls_token = nn.Parameter(torch.zeros(1, 1, c))
        self.patch_embeddings = PatchEmbeddings(c, settings.patch_size)
        self.position_embeddings = nn.Parameter(torch.zeros(1, patches + 1, c)) if placed else None
        self.dropout = nn.Dropout(settings.hidden_dropout_prob)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch_embeddings(pixels)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], 1)
        return self.dropout(x if self.position_embeddings is None else x + self.position_embeddings)  # type: ignore[no-any-return]


class Attention(nn.Module):
    def __init__(self, settings: InternVLPictures) -> None:
        super().__init__()
        c, bias = settings.hidden_size, settings.attention_bias
        self.heads, self.dropout = settings.num_attention_heads, settings.attention_dropout
        self.q_proj, self.k_proj, self.v_proj = (Linear(c, c, bias=bias) for _ in range(3))
        self.q_norm, self.k_norm = (RmsNorm(c, 1e-6) if settings.use_qk_norm else nn.Identity() for _ in range(2))
        self.projection_layer = Linear(c, c)
        self.projection_dropout = nn.Dropout(settings.projection_dropout)

    def asked(self, q: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The queries of `q` and the keys of `x`, [B, N, C] -> [B, H, N, D]."""
        q, k = self.q_norm(self.q_proj(q)), self.k_norm(self.k_proj(x))
        return attention.split_heads(q, self.heads), attention.split_heads(k, self.heads)

    def forward(self, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        q, k = self.asked(x, x)
        v = attention.split_heads(self.v_proj(x), self.heads)
        mixed = attention.fused(q, k, v, bias, self.dropout if self.training else 0.0)
        return self.projection_dropout(self.projection_layer(attention.join_heads(mixed))), q, k


class Layer(Halves):
    def __init__(self, settings: InternVLPictures) -> None:
        super().__init__()
        c, norm = settings.hidden_size, RmsNorm if settings.norm_type == "rms_norm" else LayerNorm
        self.attention, self.mlp = Attention(settings), Mlp(settings)
        self.layernorm_before, self.layernorm_after = (norm(c, eps=settings.layer_norm_eps) for _ in range(2))
        self.lambda_1, self.lambda_2 = (nn.Parameter(torch.zeros(c)) for _ in range(2))
        self.dropout = nn.Dropout(settings.hidden_dropout_prob)

    def attended(self, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """See `Halves`."""
        mixed, q, k = self.attention(self.layernorm_before(x), bias)
        return self.lambda_1 * mixed, q, k

    def fed(self, x: Tensor) -> Tensor:
        """See `Halves`."""
        return self.lambda_2 * self.dropout(self.mlp(self.layernorm_after(x)))  # type: ignore[no-any-return]

    def asked(self, x: Tensor, *, first: bool) -> tuple[Tensor, Tensor]:
        """See `Halves`."""
        x = self.layernorm_before(x)
        return self.attention.asked(x[:, :1] if first else x, x)


class InternVLTower(Tower):
    """See `Tower`."""

    def __init__(self, settings: InternVLSettings, patches: int) -> None:
        super().__init__()
        vision = settings.vision
        self.embeddings = Embeddings(vision, patches)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(Layer(vision) for _ in range(settings.blocks))
        if settings.normed:
            self.layernorm = LayerNorm(vision.hidden_size, eps=vision.layer_norm_eps)

    def begin(self, pixels: Tensor) -> Tensor:
        """See `Tower`."""
        return self.embeddings(pixels)  # type: ignore[no-any-return]

    def blocks(self) -> Iterable[Halves]:
        """See `Tower`."""
        return self.encoder.layer  # type: ignore[return-value]

    def end(self, x: Tensor) -> Tensor:
        """See `Tower`."""
        return self.layernorm(x) if hasattr(self, "layernorm") else x


class Projector(nn.Module):
    """Tokens [B, N, C] of squares of patches -> embeddings [B, N, D] of the language model."""

    def __init__(self, settings: InternVLSettings) -> None:
        super().__init__()
        c, d = settings.width, settings.language.hidden_size
        self.activation = FUNCTIONS[settings.activation]
        self.layer_norm = LayerNorm(c)
        self.linear_1, self.linear_2 = Linear(c, d), Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(self.activation(self.linear_1(self.layer_norm(x))))  # type: ignore[no-any-return]


class InternVL(VisionPartBody):
    """See `VisionPartBody`."""

    def __init__(self, config: Mapping[str, Any], image_size: Any = None) -> None:
        settings = InternVLSettings.read(config)
        super().__init__(config, settings, Projector(settings), image_size, InternVLTower)
