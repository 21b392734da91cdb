"""BERT and RoBERTa, and the pooler that may follow: transformers' names, fused attention."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pumer_convert.models import attention
from pumer_convert.models.activations import FUNCTIONS
from pumer_convert.models.precision import LayerNorm, Linear
from pumer_convert.models.towers.settings import BertSettings
from pumer_convert.tokens import Tokens


def table(rows: int, c: int, padding: int | None = None) -> nn.Embedding:
    """A table of embeddings to load weights into; the row of `padding` never learns. It is zeros: torch takes seconds
    for its first random numbers on the meta device."""
    return nn.Embedding(rows, c, padding, _weight=torch.zeros(rows, c))


class Embeddings(nn.Module):
    """Words [B, T] with their positions, which begin at 0 or, as RoBERTa's, count on from the number of the padding
    without it, and with the first token type. The row of `padding` never learns."""

    def __init__(self, settings: BertSettings, padding: int | None = None) -> None:
        super().__init__()
        c, behind = settings.hidden_size, padding if settings.model_type == "roberta" else None
        self.word_embeddings = table(settings.vocab_size, c, padding)
        self.position_embeddings = table(settings.max_position_embeddings, c, behind)
        self.token_type_embeddings = table(settings.type_vocab_size, c)
        self.LayerNorm = LayerNorm(c, eps=settings.layer_norm_eps)
        self.dropout = nn.Dropout(settings.hidden_dropout_prob)
        self.behind = behind

    def forward(self, ids: Tensor) -> Tensor:
        if self.behind is None:
            positions = self.position_embeddings.weight[: ids.shape[1]]
        else:
            there = (ids != self.behind).int()
            positions = self.position_embeddings(there.cumsum(1, dtype=torch.int32) * there + self.behind)
        words = self.word_embeddings(ids) + self.token_type_embeddings.weight[0] + positions
        return self.dropout(self.LayerNorm(words))  # type: ignore[no-any-return]


class Projections(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.query, self.key, self.value = Linear(c, c), Linear(c, c), Linear(c, c)


class Residual(nn.Module):
    """A linear layer, added to its residual and normalised (post-LN)."""

    def __init__(self, inner: int, c: int, eps: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.dense = Linear(inner, c)
        self.LayerNorm = LayerNorm(c, eps=eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(x)) + residual)  # type: ignore[no-any-return]


class SelfAttention(nn.Module):
    def __init__(self, settings: BertSettings) -> None:
        super().__init__()
        c = settings.hidden_size
        self.heads, self.dropout = settings.num_attention_heads, settings.attention_probs_dropout_prob
        self.self = Projections(c)
        self.output = Residual(c, c, settings.layer_norm_eps, settings.hidden_dropout_prob)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        parts = self.self
        q, k, v = (attention.split_heads(f(x), self.heads) for f in (parts.query, parts.key, parts.value))
        mixed = attention.fused(q, k, v, bias, self.dropout if self.training else 0.0)
        return self.output(attention.join_heads(mixed), x)  # type: ignore[no-any-return]


class Intermediate(nn.Module):
    def __init__(self, c: int, wide: int) -> None:
        super().__init__()
        self.dense = Linear(c, wide)


class Layer(nn.Module):
    def __init__(self, settings: BertSettings) -> None:
        super().__init__()
        c, wide = settings.hidden_size, settings.intermediate_size
        self.attention = SelfAttention(settings)
        self.activation = FUNCTIONS[settings.hidden_act]
        self.intermediate = Intermediate(c, wide)
        self.output = Residual(wide, c, settings.layer_norm_eps, settings.hidden_dropout_prob)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.attention(x, bias)
        return self.output(self.activation(self.intermediate.dense(x)), x)  # type: ignore[no-any-return]

    def of_tokens(self, text: Tokens) -> Tokens:
        """The same on tokens, of which attention counts merged ones by their sizes."""
        bias = attention.key_bias(text.mask, text.states.dtype, text.weights)
        return text.with_states(self(text.states, bias))


class Bert(nn.Module):
    """`ids` [B, T] and which of them are no padding, `mask` [B, T] -> hidden states [B, T, C], which a `pooler` may
    take."""

    def __init__(self, settings: BertSettings, *, pooler: bool = False) -> None:
        super().__init__()
        self.embeddings = Embeddings(settings, settings.pad_token_id)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(Layer(settings) for _ in range(settings.num_hidden_layers))
        if pooler:
            self.pooler = Pooler(settings.hidden_size)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.embeddings(ids)
        bias = attention.key_bias(mask, x.dtype)
        for layer in self.encoder.layer:  # type: ignore[union-attr]
            x = layer(x, bias)
        return x  # type: ignore[no-any-return]


def classifier(wide: int, within: int, labels: int) -> nn.Sequential:
    """A head of ViLT and METER: what was pooled, [B, `wide`] -> logits [B, `labels`]."""
    return nn.Sequential(Linear(wide, within), LayerNorm(within), nn.GELU(), Linear(within, labels))


class Pooler(nn.Module):
    """What a head sees of a stream: its first token; Tokens [B, N, C] -> [B, C]."""

    def __init__(self, c: int, activation: Callable[[Tensor], Tensor] = torch.tanh) -> None:
        super().__init__()
        self.dense = Linear(c, c)
        self.activation = activation

    def forward(self, tokens: Tokens) -> Tensor:
        return self.activation(self.dense(tokens.states[:, 0]))
