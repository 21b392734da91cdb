"""What a LLaVA's config.json may say, as typed values; torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pumer_convert.models.towers.sections import ClipPictures, SiglipPictures
from pumer_convert.models.values import (
    ACTIVATIONS,
    GENERAL,
    LAYERS,
    WHOLE,
    check_keys,
    only_architecture,
    read_values,
    section,
    wrong,
)
from pumer_convert.rules import Rule, setting

ARCHITECTURES = ("LlavaForConditionalGeneration", "LlavaModel")
TOWERS: dict[str, type[ClipPictures | SiglipPictures]] = {
    "clip_vision_model": ClipPictures,
    "siglip_vision_model": SiglipPictures,
}
"""The towers that are read, by their model_type."""
LARGE = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": 336,
}
"""The tower of a config that names none."""
LANGUAGE = {
    "llama": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
    "mistral": {
        **{"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
        "num_key_value_heads": 8,
    },
    "qwen2": {"hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32},
}
"""transformers' defaults of language models; of others the config has to say all of it."""
PLACES = 2**20
"""The longest prompt where nothing says how long it may be."""
_LAYER = Rule(int, least=-LAYERS, most=LAYERS)


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
    def read(cls, values: Mapping[str, Any], where: object) -> "LanguageSettings":
        """The values of "text_config". Raises InputError for one that is needed and not there."""
        kind = values.get("model_type", "llama")
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


@dataclass(frozen=True)
class _Shared:
    projector_hidden_act: str = setting("gelu", words=ACTIVATIONS)
    vision_feature_select_strategy: str = setting("default", words=("default", "full"))
    multimodal_projector_bias: bool = setting(True, bool)


@dataclass(frozen=True)
class LlavaSettings:
    """The values of a config.

    taps     numbers of the hidden states that the projector takes, one behind the other: 0 is what the first block
             takes, i what block i - 1 gives.
    cls      whether the tower has a CLS token.
    trimmed  whether the first token, CLS where there is one, is left out before the projector.
    """

    architecture: str
    vision: ClipPictures | SiglipPictures
    language: LanguageSettings
    taps: tuple[int, ...]
    trimmed: bool
    activation: str
    bias: bool

    @property
    def cls(self) -> bool:
        """See above."""
        return isinstance(self.vision, ClipPictures)

    @property
    def blocks(self) -> int:
        """How many blocks of the tower are of use."""
        return max(self.taps)

    @property
    def sites(self) -> int:
        """In how many blocks tokens can be reduced: in those before the last that all states taken have run through.
        Behind that one stands the projector."""
        return max(min(self.taps) - 1, 0)

    @classmethod
    def read(cls, config: Mapping[str, Any], where: object = "the model") -> "LlavaSettings":
        """The values of a config of `model_type` "llava". Raises InputError, beginning with `where`, for a key that is
        not known, a value that is not allowed, and values that do not go together."""
        known = {"vision_config", "text_config", "vision_feature_layer", "image_token_index", "image_token_id"}
        known |= {"projector_hidden_act", "vision_feature_select_strategy", "multimodal_projector_bias"}
        known |= {"image_seq_length", "ignore_index", "vocab_size", "pumer"} | GENERAL
        # How the language model is quantized; the tower's own weights are read in floating point or refused.
        check_keys({key: value for key, value in config.items() if key != "quantization_config"}, known, where)
        architecture = only_architecture(config, ARCHITECTURES, where) or ARCHITECTURES[0]
        values = dict(section(config, "vision_config", where)) if config.get("vision_config") is not None else LARGE
        kind = values.get("model_type") or LARGE["model_type"]
        if not isinstance(kind, str) or kind not in TOWERS:
            raise wrong(where, "vision_config.model_type", kind, f"towers that are read are {', '.join(TOWERS)}")
        if values.get("tie_last_hidden_states"):
            raise wrong(where, "vision_config.tie_last_hidden_states", True, "a model with that is not supported")
        # Its classes put the language model's into it.
        values.pop("vocab_size", None)
        vision = TOWERS[kind].read(values, where, "vision_config.")
        language = LanguageSettings.read(section({"text_config": {}, **config}, "text_config", where), where)
        shared = read_values(_Shared, config, where)
        return cls(
            architecture=architecture,
            vision=vision,
            language=language,
            taps=_taps(config.get("vision_feature_layer", -2), vision.num_hidden_layers, where),
            trimmed=shared["vision_feature_select_strategy"] == "default",
            activation=shared["projector_hidden_act"],
            bias=shared["multimodal_projector_bias"],
        )


def _taps(value: Any, blocks: int, where: object) -> tuple[int, ...]:
    given = value if isinstance(value, list) and value else [value]
    if not all(_LAYER.holds(layer) and -blocks - 1 <= layer <= blocks for layer in given):
        why = f"allowed: a whole number from {-blocks - 1} to {blocks}, or a list of them"
        raise wrong(where, "vision_feature_layer", value, why)
    return tuple(layer if layer >= 0 else blocks + 1 + layer for layer in given)


def checked(config: Mapping[str, Any], where: object) -> dict[str, Any]:
    """A config with every value that is read here in one form and transformers' defaults filled in; the language
    model's section stays as it is. Raises InputError; see `read`."""
    found = LlavaSettings.read(config, where)
    kind = next(name for name, cls in TOWERS.items() if isinstance(found.vision, cls))
    return {
        **config,
        "model_type": "llava",
        "architectures": [found.architecture],
        "vision_config": {"model_type": kind, **vars(found.vision)},
        "text_config": {**config.get("text_config", {}), **{k: v for k, v in vars(found.language).items() if v}},
        "vision_feature_layer": config.get("vision_feature_layer", -2),
        "vision_feature_select_strategy": "default" if found.trimmed else "full",
        "projector_hidden_act": found.activation,
        "multimodal_projector_bias": found.bias,
    }
