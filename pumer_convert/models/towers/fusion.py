"""Layers in which text and image attend to each other, half a layer each; reducers between the halves."""

import torch
from torch import Tensor, nn

from pumer_convert.models import attention
from pumer_convert.models.activations import FUNCTIONS
from pumer_convert.models.precision import LayerNorm
from pumer_convert.models.towers.bert import Intermediate, Projections, Residual
from pumer_convert.models.towers.settings import BertSettings
from pumer_convert.reducers.site import SiteReducers, Trace
from pumer_convert.tokens import Tokens


class FusionAttention(nn.Module):
    """Attention of `queries` to `keys`, with its residual. Gives also the queries, keys and, in the published
    form, the probabilities, which reducers ask for."""

    def __init__(self, settings: BertSettings, published: bool = False) -> None:
        super().__init__()
        c = settings.hidden_size
        self.heads, self.published = settings.num_attention_heads, published
        self.dropout = settings.attention_probs_dropout_prob
        self.self = Projections(c)
        self.output = Residual(c, c, settings.layer_norm_eps, settings.hidden_dropout_prob)

    def forward(self, queries: Tensor, keys: Tokens) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
        parts = self.self
        q = attention.split_heads(parts.query(queries), self.heads)
        k, v = (attention.split_heads(f(keys.states), self.heads) for f in (parts.key, parts.value))
        bias, probabilities = None, None
        if self.published:
            mixed, probabilities = attention.reference(q, k, v, keys.mask)
        else:
            bias = attention.key_bias(keys.mask, q.dtype, keys.weights)
            mixed = attention.fused(q, k, v, bias, self.dropout if self.training else 0.0)
        return self.output(attention.join_heads(mixed), queries), q, k, bias, probabilities

    def of_first(self, tokens: Tokens) -> Tensor:
        """How much attention the first of the tokens pays to each of them, float32 [B, N] without a gradient: the mean
        over heads."""
        states = tokens.states.detach()
        q = attention.split_heads(self.self.query(states[:, :1]), self.heads)
        k = attention.split_heads(self.self.key(states), self.heads)
        bias = attention.key_bias(tokens.mask, q.dtype, tokens.weights)
        return attention.relevance(q, k, bias, tokens.mask[:, :1])


class FusionHalf(nn.Module):
    """One modality's side of a fusion layer: self-attention, cross-attention, feed-forward."""

    def __init__(self, settings: BertSettings, published: bool = False) -> None:
        super().__init__()
        c, wide = settings.hidden_size, settings.intermediate_size
        self.attention = FusionAttention(settings, published)
        self.crossattention = FusionAttention(settings, published)
        self.activation = FUNCTIONS[settings.hidden_act]
        self.intermediate = Intermediate(c, wide)
        self.output = Residual(wide, c, settings.layer_norm_eps, settings.hidden_dropout_prob)

    def feed_forward(self, x: Tensor) -> Tensor:
        return self.output(self.activation(self.intermediate.dense(x)), x)  # type: ignore[no-any-return]


class Link(nn.Module):
    """A bridge (Xu et al., AAAI 2023): what a tower says of its tokens goes into what fusion has made of them."""

    def __init__(self, kind: str, c: int, eps: float) -> None:
        super().__init__()
        if kind == "scaled_add":
            self.scaled_factor = nn.Parameter(torch.ones(()))
        elif kind == "interpolate":
            self.beta = nn.Parameter(torch.full((), 0.5))
        self.kind = kind
        self.LayerNorm = LayerNorm(c, eps=eps)

    def forward(self, own: Tensor, fused: Tensor) -> Tensor:
        if self.kind == "scaled_add":
            own = own * self.scaled_factor
        elif self.kind == "interpolate":
            own, fused = own * (1 - self.beta), fused * self.beta
        return self.LayerNorm(own + fused)  # type: ignore[no-any-return]


def of_members(tokens: Tokens, whole: Tokens, values: Tensor) -> Tensor:
    """`values` [B, N0, C] of the `whole` tokens -> [B, N, C] of the `tokens` that are left: means over members."""
    return values if tokens.source is whole.source else tokens.pool(values, whole.size)


def fuse(
    words: FusionHalf,
    picture: FusionHalf,
    text: Tokens,
    image: Tokens,
    step: SiteReducers | None,
    trace: Trace,
    riders: tuple[Tensor, Tensor] | None = None,
    *,
    sequential: bool = False,
) -> tuple[Tokens, Tokens, tuple[Tensor, Tensor] | None]:
    """One pair of fusion layers, reduced in its text half between cross-attention and feed-forward.

    The text half comes first: its cross-attention says how much each image token is asked for, its keys which are
    alike. Its feed-forward and the whole image half then run on the reduced tokens. (Pruning by the attention of the
    image's CLS takes that of the image half beforehand.) Under sequential fusion (PuMer) the image half reads the new,
    merged text. Under parallel fusion (original METER) it reads the layer's own text input, whole: both halves see the
    old pair there, and a ratio of 0 then gives exactly the dense model; the old text is at most 50 tokens, so nothing
    is lost by keeping it.

    `riders` are other states [B, T, C'] and [B, N, C''] of the same text and image tokens (BridgeTower's towers): they
    stand beside these while the tokens are reduced, and come back as one decision left both.
    """
    own, _, text_keys, _, _ = words.attention(text.states, text)
    x, q, image_keys, bias, probabilities = words.crossattention(own, image)
    old_text, text = text, text.with_states(x)
    if step is not None:
        asked = None
        if step.score == "relevance" and probabilities is not None:
            asked = probabilities.mean(1).sum(1).float()
        elif step.score == "relevance":
            asked = attention.relevance(q, image_keys, bias, text.mask)
        elif step.score in ("cls_attention", "attention"):
            asked = picture.attention.of_first(image)
        if riders is not None:
            text, image = beside(text, riders[0]), beside(image, riders[1])
        image, text = step(
            image.with_keys(image_keys.mean(1).detach()),
            text.with_keys(text_keys.mean(1).detach()),
            asked,
            trace,
        )
        if riders is not None:
            (text, words_too), (image, picture_too) = apart(text, x.shape[-1]), apart(image, x.shape[-1])
            riders = words_too, picture_too
    text = text.with_states(words.feed_forward(text.states))
    y, *_ = picture.attention(image.states, image)
    y, *_ = picture.crossattention(y, text if sequential else old_text)
    return text, image.with_states(picture.feed_forward(y)), riders


def beside(tokens: Tokens, rider: Tensor) -> Tokens:
    """The tokens with other states of theirs beside their own: [B, N, C + C']."""
    return tokens.with_states(torch.cat([tokens.states, rider], -1))


def apart(tokens: Tokens, c: int) -> tuple[Tokens, Tensor]:
    """The tokens with the first `c` channels of their states, and the others."""
    # As they would lie without each other: products of other strides are rounded otherwise.
    own, rider = tokens.states[..., :c].contiguous(), tokens.states[..., c:].contiguous()
    return tokens.with_states(own), rider
