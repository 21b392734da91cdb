"""What a LLaVA's config.json may say, as typed values; torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from pumer_convert.models.towers.language import LanguageSettings
from pumer_convert.models.towers.sections import ClipPictures, SiglipPictures
from pumer_convert.models.towers.vision_part import VisionPart, check_config_keys, language_section
from pumer_convert.models.values import (
    ACTIVATIONS,
    LAYERS,
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
_LAYER = Rule(int, least=-LAYERS, most=LAYERS)


@dataclass(frozen=True)
class _Shared:
    projector_hidden_act: str = setting("gelu", words=ACTIVATIONS)
    vision_feature_select_strategy: str = setting("default", words=("default", "full"))
    multimodal_projector_bias: bool = setting(True, bool)


@dataclass(frozen=True)
class LlavaSettings(VisionPart):
    """The values of a config: with them the projector's activation, and whether it has biases."""

    activation: str
    bias: bool

    @classmethod
    def read(cls, config: Mapping[str, Any], where: object = "the model") -> "LlavaSettings":
        """The values of a config of `model_type` "llava". Raises InputError, beginning with `where`, for a key that is
        not known, a value that is not allowed, and values that do not go together."""
        check_config_keys(config, {f.name for f in fields(_Shared)} | {"vision_feature_layer"}, where)
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
        language = LanguageSettings.read(config, "llama", where)
        shared = read_values(_Shared, config, where)
        return cls(
            architecture=architecture,
            vision=vision,
            language=language,
            taps=_taps(config.get("vision_feature_layer", -2), vision.num_hidden_layers, where),
            trimmed=shared["vision_feature_select_strategy"] == "default",
            normed=False,
            squares=None,
            activation=shared["projector_hidden_act"],
            bias=shared["multimodal_projector_bias"],
        )


def _taps(value: Any, blocks: int, where: object) -> tuple[int, ...]:
    given = value if isinstance(value, list) and value else [value]
    if not all(_LAYER.holds(layer) and -blocks - 1 <= layer <= blocks for layer in given):
        why = f"allowed: a whole number from {-blocks - 1} to {blocks}, or a list of them"
        raise wrong(where, "vision_feature_layer", value, why)
    return tuple(layer if layer >= 0 else blocks + 1 + layer for layer in given)


def checked_config(config: Mapping[str, Any], where: object) -> dict[str, Any]:
    """A config with every value that is read here in one form and transformers' defaults filled in; the language
    model's section stays as it is. Raises InputError; see `read`."""
    found = LlavaSettings.read(config, where)
    kind = next(name for name, cls in TOWERS.items() if isinstance(found.vision, cls))
    return {
        **config,
        "model_type": "llava",
        "architectures": [found.architecture],
        "vision_config": {"model_type": kind, **vars(found.vision)},
        "text_config": language_section(config.get("text_config"), found.language),
        "vision_feature_layer": config.get("vision_feature_layer", -2),
        "vision_feature_select_strategy": "default" if found.trimmed else "full",
        "projector_hidden_act": found.activation,
        "multimodal_projector_bias": found.bias,
    }
