"""The SigLIP network: transformers' names, fused attention, reducers in the blocks of the tower of pictures."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pumer_convert.models import attention
from pumer_convert.models.precision import LayerNorm, Linear, like
from pumer_convert.models.siglip.config import WHOLE_MODEL, SiglipSettings, TextSettings, VisionSettings
from pumer_convert.models.spec import grid, sides_of
from pumer_convert.models.towers.clip import PackedAttention
from pumer_convert.models.towers.dual import TwoTowerBody
from pumer_convert.models.towers.embeddings import PatchEmbeddings, WordEmbeddings
from pumer_convert.models.towers.encoder import Encoder, Mlp
from pumer_convert.models.towers.reduction import image_bias
from pumer_convert.reducers.site import SiteReducers, Trace
from pumer_convert.tokens import Tokens


class PoolingHead(nn.Module):
    """The attention of one learned query to all tokens, and a feed-forward; tokens [B, N, C] -> [B, C]. It counts
    merged tokens by their size, as the blocks do: without that an embedding would be another."""

    def __init__(self, settings: VisionSettings) -> None:
        super().__init__()
        c = settings.hidden_size
        self.probe = nn.Parameter(torch.zeros(1, 1, c))
        self.attention = PackedAttention(c, settings.num_attention_heads)
        self.layernorm = LayerNorm(c, eps=settings.layer_norm_eps)
        self.mlp = Mlp(settings)

    def _query(self, rows: int) -> Tensor:
        own, c = self.attention, self.probe.shape[-1]
        q = F.linear(self.probe.expand(rows, 1, -1), own.in_proj_weight[:c], own.in_proj_bias[:c])
        return attention.split_heads(q, own.heads)

    def asks(self, image: Tokens) -> Tensor:
        """How much attention the probe pays to each token, [B, N] float32 without a gradient: the mean over heads."""
        own = self.attention
        x = like(image.states.detach(), own.in_proj_weight)
        c = x.shape[-1]
        k = F.linear(x, own.in_proj_weight[c : 2 * c], own.in_proj_bias[c : 2 * c])
        k = attention.split_heads(k, own.heads)
        return attention.relevance(self._query(x.shape[0]), k, image_bias(image), image.mask[:, :1])

    def forward(self, image: Tokens) -> Tensor:
        own = self.attention
        x = like(image.states, own.in_proj_weight)
        c = x.shape[-1]
        q = self._query(x.shape[0])
        k, v = F.linear(x, own.in_proj_weight[c:], own.in_proj_bias[c:]).chunk(2, -1)
        k, v = (attention.split_heads(part, own.heads) for part in (k, v))
        mixed = own.out_proj(attention.join_heads(attention.fused(q, k, v, image_bias(image))))[:, 0]
        return mixed + self.mlp(self.layernorm(mixed))  # type: ignore[no-any-return]


class VisionTower(nn.Module):
    def __init__(self, settings: VisionSettings, patches: int) -> None:
        super().__init__()
        c = settings.hidden_size
        self.embeddings = PatchEmbeddings(c, settings.patch_size, patches, cls=False, bias=True)
        self.encoder = Encoder(settings)
        self.post_layernorm = LayerNorm(c, eps=settings.layer_norm_eps)
        self.head = PoolingHead(settings)

    def forward(
        self, pixels: Tensor, step: Callable[[str], SiteReducers | None], trace: Trace
    ) -> tuple[Tokens, Tensor]:
        """See `TwoTowerBody`."""
        x = self.embeddings(pixels)
        image = Tokens.start(x, torch.ones_like(x[..., 0], dtype=torch.bool))
        image = self.encoder.of_image(image, step, trace, self.asked)
        image = image.with_states(self.post_layernorm(image.states))
        return image, self.head(image)

    def asked(self, image: Tokens, step: SiteReducers) -> Tensor:
        """How much the head's probe would attend to each token if the blocks ended here, [B, N] float32."""
        return self.head.asks(image.with_states(self.post_layernorm(image.states)))


class TextTower(nn.Module):
    def __init__(self, settings: TextSettings) -> None:
        super().__init__()
        c = settings.hidden_size
        self.embeddings = WordEmbeddings(settings.vocab_size, settings.max_position_embeddings, c)
        self.encoder = Encoder(settings)
        self.final_layer_norm = LayerNorm(c, eps=settings.layer_norm_eps)
        self.head = Linear(c, settings.outputs)

    def forward(self, input_ids: Tensor) -> tuple[Tokens, Tensor]:
        """See `TwoTowerBody`. Padding is seen like any other token."""
        x = self.encoder(self.embeddings(input_ids), None)
        text = Tokens.start(x, torch.ones_like(input_ids, dtype=torch.bool))
        return text, self.head(self.final_layer_norm(x[:, -1]))


class Siglip(TwoTowerBody):
    """Two towers that never meet, or one of them. `pixel_values` [B, 3, H, W] -> image_embeds [B, D]; `input_ids`
    [B, T], of T places exactly -> text_embeds [B, D]: unit vectors in a model of both, pooler_output as it is in a
    model of one."""

    def __init__(self, config: Mapping[str, Any], image_size: Any = None) -> None:
        super().__init__()
        self.config = dict(config)
        settings = SiglipSettings.read(config)
        self.pictures, self.compared = settings.vision is not None, settings.architecture == WHOLE_MODEL
        if settings.vision is not None:
            self.image_size = sides_of(image_size or settings.vision.image_size)
            rows, columns = grid(self.image_size, settings.vision.patch_size)
            self.vision_model = VisionTower(settings.vision, rows * columns)
        if settings.text is not None:
            self.text_model = TextTower(settings.text)
        if self.compared:
            self.logit_scale, self.logit_bias = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
