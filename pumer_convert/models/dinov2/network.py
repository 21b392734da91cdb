"""The DINOv2 network: transformers' names, fused attention, reducers in the blocks."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pumer_convert.models import attention
from pumer_convert.models.body import Body
from pumer_convert.models.dinov2.config import Dinov2Settings
from pumer_convert.models.output import Output
from pumer_convert.models.precision import LayerNorm, Linear
from pumer_convert.models.spec import grid, sides_of
from pumer_convert.models.towers.encoder import Mlp
from pumer_convert.models.towers.reduction import image_bias, reduce_image
from pumer_convert.models.towers.vit import Attention, PatchEmbeddings
from pumer_convert.reducers.site import SiteReducers, Trace
from pumer_convert.tokens import Tokens


class Embeddings(nn.Module):
    """`pixels` [B, 3, H, W] -> CLS, registers and patches, [B, 1 + R + N, C]; registers have no positions."""

    def __init__(self, settings: Dinov2Settings, patches: int) -> None:
        super().__init__()
        c, registers = settings.hidden_size, settings.num_register_tokens
        self.cls_token = nn.Parameter(torch.zeros(1, 1, c))
        self.register_tokens = nn.Parameter(torch.zeros(1, registers, c)) if registers else None
        self.position_embeddings = nn.Parameter(torch.zeros(1, patches + 1, c))
        self.patch_embeddings = PatchEmbeddings(c, settings.patch_size)
        self.dropout = nn.Dropout(settings.hidden_dropout_prob)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch_embeddings(pixels) + self.position_embeddings[:, 1:]
        first = self.cls_token + self.position_embeddings[:, :1]
        first = first if self.register_tokens is None else torch.cat([first, self.register_tokens], 1)
        return self.dropout(torch.cat([first.expand(x.shape[0], -1, -1), x], 1))  # type: ignore[no-any-return]


class SwiGlu(nn.Module):
    """A feed-forward that is gated (Shazeer 2020); `weights_in` has the gate's rows first."""

    def __init__(self, settings: Dinov2Settings) -> None:
        super().__init__()
        c, wide = settings.hidden_size, settings.gated_size
        self.weights_in, self.weights_out = Linear(c, 2 * wide), Linear(wide, c)

    def forward(self, x: Tensor) -> Tensor:
        gate, x = self.weights_in(x).chunk(2, -1)
        return self.weights_out(F.silu(gate) * x)  # type: ignore[no-any-return]


class LayerScale(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.lambda1 = nn.Parameter(torch.zeros(c))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.lambda1


class Layer(nn.Module):
    def __init__(self, settings: Dinov2Settings) -> None:
        super().__init__()
        c, eps = settings.hidden_size, settings.layer_norm_eps
        self.norm1, self.norm2 = LayerNorm(c, eps=eps), LayerNorm(c, eps=eps)
        self.attention = Attention(c, settings.num_attention_heads, settings.qkv_bias)
        self.mlp = SwiGlu(settings) if settings.use_swiglu_ffn else Mlp(settings)
        self.layer_scale1, self.layer_scale2 = LayerScale(c), LayerScale(c)
        self.attention_dropout, self.drop_path_rate = settings.attention_dropout, settings.drop_path_rate

    def forward(self, image: Tokens, step: SiteReducers | None, trace: Trace) -> Tokens:
        """The layer; between its halves the tokens are reduced where there is a `step`."""
        bias = image_bias(image)
        q, k, v = self.attention.projected(self.norm1(image.states))
        mixed = attention.fused(q, k, v, bias, self.attention_dropout if self.training else 0.0)
        mixed = self.layer_scale1(self.attention.output(attention.join_heads(mixed)))
        image = image.with_states(image.states + self._dropped(mixed))
        image = reduce_image(image, step, q, k, bias, trace)
        return image.with_states(image.states + self._dropped(self.layer_scale2(self.mlp(self.norm2(image.states)))))

    def _dropped(self, branch: Tensor) -> Tensor:
        """In training what a branch adds is left out of some examples (stochastic depth, Huang et al. 2016)."""
        if not self.training or not self.drop_path_rate:
            return branch
        kept = 1 - self.drop_path_rate
        return branch * branch.new_empty(branch.shape[0], 1, 1).bernoulli_(kept) / kept


class Encoder(nn.Module):
    def __init__(self, settings: Dinov2Settings) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(settings) for _ in range(settings.num_hidden_layers))


class Dinov2(Body):
    """`pixel_values` [B, 3, H, W] -> pooler_output [B, C], which is CLS, and last_hidden_state [B, 1 + R + N, C] of
    CLS, R registers and every patch. A merged token's state stands at each of its patches, and zeros at pruned ones."""

    def __init__(self, config: Mapping[str, Any], image_size: Any = None) -> None:
        super().__init__()
        self.config = dict(config)
        self.settings = settings = Dinov2Settings.read(config)
        self.image_size = sides_of(image_size or settings.image_size)
        rows, columns = grid(self.image_size, settings.patch_size)
        self.embeddings = Embeddings(settings, rows * columns)
        self.encoder = Encoder(settings)
        self.layernorm = LayerNorm(settings.hidden_size, eps=settings.layer_norm_eps)

    def forward(self, pixel_values: Tensor, trace: Trace | None = None) -> Output:
        """The one graph, "image"."""
        trace, reduced = Trace() if trace is None else trace, len(self.reducers) > 0
        self.check_pixels(pixel_values, self.image_size)
        x = self.embeddings(pixel_values)
        there = torch.ones_like(x[..., 0], dtype=torch.bool)
        image = Tokens.start(x, there, first=self.settings.first, mapped=reduced)
        for i, layer in enumerate(self.encoder.layer):
            image = layer(image, self.step(f"vision.{i}"), trace)
        image = image.with_states(self.layernorm(image.states))
        outputs = {
            "pooler_output": image.states[:, 0],
            "last_hidden_state": image.spread() if reduced else image.states,
        }
        return Output(outputs, {"image": image}, trace)
