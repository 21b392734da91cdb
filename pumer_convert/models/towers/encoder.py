"""A transformer with its norms before attention and feed-forward, under transformers' names: both towers of CLIP and
SigLIP."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pumer_convert.models import attention
from pumer_convert.models.activations import FUNCTIONS
from pumer_convert.models.precision import LayerNorm, Linear
from pumer_convert.models.towers.reduction import image_bias, reduce_image
from pumer_convert.models.towers.settings import EncoderSettings
from pumer_convert.reducers.site import SiteReducers, Trace
from pumer_convert.tokens import Tokens

Probe = Callable[[Tokens, SiteReducers], Tensor]
"""What scores the tokens of pictures for the reducers of a site, [B, N] float32."""


def unit(x: Tensor) -> Tensor:
    """Embeddings [B, D] as unit vectors; their lengths are taken in float32 or more exactly."""
    exact = torch.promote_types(x.dtype, torch.float32)
    return F.normalize(x.to(exact), dim=-1).to(x.dtype)


class SelfAttention(nn.Module):
    """Gives also the queries and keys, which reducers ask for."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        c = settings.hidden_size
        self.heads, self.dropout = settings.num_attention_heads, settings.attention_dropout
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (Linear(c, c) for _ in range(4))

    def forward(self, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (attention.split_heads(f(x), self.heads) for f in (self.q_proj, self.k_proj, self.v_proj))
        mixed = attention.fused(q, k, v, bias, self.dropout if self.training else 0.0)
        return self.out_proj(attention.join_heads(mixed)), q, k


class Mlp(nn.Module):
    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.activation = FUNCTIONS[settings.hidden_act]
        self.fc1 = Linear(settings.hidden_size, settings.intermediate_size)
        self.fc2 = Linear(settings.intermediate_size, settings.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(x)))  # type: ignore[no-any-return]


class Halves(nn.Module, ABC):
    """A layer whose halves each add to hidden states [B, N, C]; what reduces tokens stands between them."""

    @abstractmethod
    def attended(self, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """What attention adds to them, and its queries and keys [B, H, N, D]."""

    @abstractmethod
    def fed(self, x: Tensor) -> Tensor:
        """What the feed-forward adds to them."""

    @abstractmethod
    def asked(self, x: Tensor, *, first: bool) -> tuple[Tensor, Tensor]:
        """The queries and keys [B, H, N, D]; of the `first` token alone its query, [B, H, 1, D]."""

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """The whole layer on hidden states [B, N, C]."""
        x = x + self.attended(x, bias)[0]
        return x + self.fed(x)

    def of_image(self, image: Tokens, step: SiteReducers | None, trace: Trace, probe: Probe | None = None) -> Tokens:
        """The same on the tokens of pictures, which are reduced where there is a `step`: between its halves, or behind
        them."""
        bias = image_bias(image)
        mixed, q, k = self.attended(image.states, bias)
        image = image.with_states(image.states + mixed)
        behind = step is not None and step.side == "after"
        if not behind:
            image = reduce_image(image, step, q, k, bias, trace, probe)
        image = image.with_states(image.states + self.fed(image.states))
        return reduce_image(image, step, q, k, bias, trace, probe) if behind else image

    def looked_at(self, image: Tokens, *, cls: bool) -> tuple[Tensor, Tensor]:
        """How much attention the first token, CLS, pays to each of those that come in, or all of them do without `cls`,
        [B, N] float32, and their keys, [B, N, D]: means over heads, without a gradient."""
        (q, k), bias = self.asked(image.states.detach(), first=cls), image_bias(image)
        paid = attention.relevance(q, k, bias, image.mask[:, :1]) if cls else attention.columns(q, k, bias, image.sizes)
        return paid, k.mean(1).detach()


class EncoderLayer(Halves):
    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        c, eps = settings.hidden_size, settings.layer_norm_eps
        self.self_attn, self.mlp = SelfAttention(settings), Mlp(settings)
        self.layer_norm1, self.layer_norm2 = LayerNorm(c, eps=eps), LayerNorm(c, eps=eps)

    def attended(self, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """See `Halves`."""
        return self.self_attn(self.layer_norm1(x), bias)  # type: ignore[no-any-return]

    def fed(self, x: Tensor) -> Tensor:
        """See `Halves`."""
        return self.mlp(self.layer_norm2(x))  # type: ignore[no-any-return]

    def asked(self, x: Tensor, *, first: bool) -> tuple[Tensor, Tensor]:
        """See `Halves`."""
        own, x = self.self_attn, self.layer_norm1(x)
        asking = x[:, :1] if first else x
        return attention.split_heads(own.q_proj(asking), own.heads), attention.split_heads(own.k_proj(x), own.heads)


class Encoder(nn.Module):
    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(settings) for _ in range(settings.num_hidden_layers))

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """All layers on hidden states [B, N, C]."""
        for layer in self.layers:
            x = layer(x, bias)
        return x

    def of_image(
        self, image: Tokens, step: Callable[[str], SiteReducers | None], trace: Trace, probe: Probe | None = None
    ) -> Tokens:
        """All layers on the tokens of pictures; `step` gives the reducers at a site, "vision.i", and `probe` a score
        of the tokens (see `reduce_image`)."""
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, EncoderLayer)
            image = layer.of_image(image, step(f"vision.{i}"), trace, probe)
        return image
