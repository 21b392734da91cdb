"""The language model behind the vision part of a decoder: nothing of it is read but its sizes; torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pumer_convert.models.values import WHOLE, read_values, section, wrong
from pumer_convert.rules import setting

_SIZES = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
_GEMMA = {
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
}
LANGUAGE: dict[str, dict[str, int]] = {
    "llama": {**_SIZES, "intermediate_size": 11008},
    "mistral": {**_SIZES, "intermediate_size": 14336, "num_key_value_heads": 8},
    "qwen2": {**_SIZES, "intermediate_size": 22016},
    "gemma": {
        "hidden_size": 3072,
        "intermediate_size": 24576,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "head_dim": 256,
    },
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
}
"""transformers' defaults of language models; of others the config has to say all of it."""


@dataclass(frozen=True)
class LanguageSettings:
    """The language model, of which nothing is read but these numbers: how wide it is, and what its prefill costs."""

    hidden_size: int = setting(None, int, least=1, most=WHOLE)
    intermediate_size: int = setting(None, int, least=1, most=WHOLE)
    num_hidden_layers: int = setting(None, int, least=1, most=1000)
    num_attention_heads: int = setting(None, int, least=1, most=WHOLE)
    num_key_value_heads: int | None = setting(None, int, least=1, most=WHOLE)
    head_dim: int | None = setting(None, int, least=1, most=WHOLE)
    max_position_embeddings: int | None = setting(None, int, least=2)

    @classmethod
    def read(cls, config: Mapping[str, Any], usual: str, where: object) -> "LanguageSettings":
        """The values of a config's "text_config", of a `usual` kind where it names none. Raises InputError for one that
        is needed and not there."""
        values = section({**config, "text_config": config.get("text_config") or {}}, "text_config", where)
        kind = values.get("model_type") or usual
        known = LANGUAGE.get(kind, {}) if isinstance(kind, str) else {}
        found = read_values(cls, {**known, **values}, where, "text_config.")
        for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
            if found[name] is None:
                raise wrong(where, f"text_config.{name}", None, f"of a language model '{kind}' it has to be there")
        return cls(**found)

    def prefill(self, n: int) -> int:
        """Multiply-accumulates of all layers over `n` tokens, their feed-forwards gated; every token sees every other,
        as the fused kernels for prompts compute it."""
        c, head = self.hidden_size, self.head_dim or self.hidden_size // self.num_attention_heads
        own, shared = head * self.num_attention_heads, head * (self.num_key_value_heads or self.num_attention_heads)
        layer = 2 * n * c * (own + shared) + 2 * n * n * own + 3 * n * c * self.intermediate_size
        return self.num_hidden_layers * layer
