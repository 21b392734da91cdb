"""The values of a config.json that a tower is built from; torch-free."""

from dataclasses import dataclass
from typing import Protocol

from pumer_convert.models.values import ACTIVATIONS, LAYERS, WHOLE
from pumer_convert.rules import setting


class Sizes(Protocol):
    """How large a transformer is."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def intermediate_size(self) -> int: ...
    @property
    def num_hidden_layers(self) -> int: ...
    @property
    def num_attention_heads(self) -> int: ...


class EncoderSettings(Sizes, Protocol):
    """What one is built from (`encoder.Encoder`)."""

    @property
    def hidden_act(self) -> str: ...
    @property
    def layer_norm_eps(self) -> float: ...
    @property
    def attention_dropout(self) -> float: ...


@dataclass(frozen=True)
class ClipSettings:
    """CLIP's vision transformer."""

    hidden_size: int = setting(768, int, least=1, most=WHOLE)
    num_hidden_layers: int = setting(12, int, least=1, most=LAYERS)
    num_attention_heads: int = setting(12, int, least=1, most=WHOLE)
    intermediate_size: int = setting(3072, int, least=1, most=WHOLE)
    layer_norm_eps: float = setting(1e-5, float)


@dataclass(frozen=True)
class BertSettings:
    """The text's encoder: RoBERTa, or BERT (`model_type`), whose positions begin at 0 and whose padding is token 0.

    `max_text_len` is the most tokens of a text; None: as many as there are positions.
    """

    model_type: str = setting("roberta", words=("roberta", "bert"))
    vocab_size: int = setting(50265, int, least=1, most=WHOLE)
    hidden_size: int = setting(768, int, least=1, most=WHOLE)
    num_hidden_layers: int = setting(12, int, least=1, most=LAYERS)
    num_attention_heads: int = setting(12, int, least=1, most=WHOLE)
    intermediate_size: int = setting(3072, int, least=1, most=WHOLE)
    hidden_act: str = setting("gelu", words=ACTIVATIONS)
    hidden_dropout_prob: float = setting(0.0, float, most=1)
    attention_probs_dropout_prob: float = setting(0.0, float, most=1)
    max_position_embeddings: int = setting(514, int, least=2, most=WHOLE)
    max_text_len: int | None = setting(None, int, least=2, most=WHOLE)
    type_vocab_size: int = setting(1, int, least=1, most=WHOLE)
    pad_token_id: int = setting(1, int, most=WHOLE)
    layer_norm_eps: float = setting(1e-5, float)

    @property
    def places(self) -> int:
        """The positions that a text can take: RoBERTa's begin behind the number of its padding token."""
        return self.max_position_embeddings - (self.pad_token_id + 1 if self.model_type == "roberta" else 0)

    @property
    def longest(self) -> int:
        """The most tokens of a text."""
        return self.max_text_len or self.places


POOLS = ("max", "mean", "sum")
ATTENTIONS = ("sparsemax", "softmax", "sigmoid")


@dataclass(frozen=True)
class Codebook:
    """So many `codes` of a `width`, of which an embedding is the weighted sum; a `pool` over tokens makes a score of
    each, and an `attention` at a `temperature` its weight."""

    codes: int = setting(16384, int, least=1, most=WHOLE)
    width: int = setting(512, int, least=1, most=WHOLE)
    temperature: float = setting(0.0, float, above=True)
    pool: str = setting("", words=POOLS)
    attention: str = setting("", words=ATTENTIONS)
