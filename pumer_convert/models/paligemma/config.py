"""What a PaliGemma's config.json may say, as typed values; torch-free."""

from collections.abc import Mapping
from typing import Any

from pumer_convert.models.towers.language import LanguageSettings
from pumer_convert.models.towers.vision_part import (
    SIGLIP,
    VisionPart,
    check_config_keys,
    language_section,
    siglip_tower,
)
from pumer_convert.models.values import only_architecture, wrong

ARCHITECTURES = ("PaliGemmaForConditionalGeneration", "PaliGemmaModel")
TOWER = {
    "hidden_size": 1152,
    "intermediate_size": 4096,
    "patch_size": 14,
    "image_size": 224,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "vision_use_head": False,
}
LANGUAGE = {
    "model_type": "gemma",
    "hidden_size": 2048,
    "intermediate_size": 16384,
    "num_hidden_layers": 18,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
}
"""The sections of a config that has none."""


def settings_of(config: Mapping[str, Any], where: object = "the model") -> VisionPart:
    """The values of a config of `model_type` "paligemma". Raises InputError, beginning with `where`, for a key that is
    not known, a value that is not allowed, and values that do not go together."""
    check_config_keys(config, {"projection_dim", "hidden_size"}, where)
    text = config.get("text_config") or LANGUAGE
    vision = siglip_tower(config, TOWER, where)
    language = LanguageSettings.read({"text_config": text}, "gemma", where)
    if (width := config.get("projection_dim", 2048)) != language.hidden_size:
        why = f"the language model takes {language.hidden_size} numbers"
        raise wrong(where, "projection_dim", width, why)
    return VisionPart(
        architecture=only_architecture(config, ARCHITECTURES, where) or ARCHITECTURES[0],
        vision=vision,
        language=language,
        taps=(vision.num_hidden_layers,),
        trimmed=False,
        normed=True,
        squares=None,
    )


def checked_config(config: Mapping[str, Any], where: object) -> dict[str, Any]:
    """A config with every value that is read here in one form and transformers' defaults filled in; the language
    model's section stays as it is. Raises InputError; see `settings_of`."""
    found = settings_of(config, where)
    text = config.get("text_config") or LANGUAGE
    return {
        **config,
        "model_type": "paligemma",
        "architectures": [found.architecture],
        "vision_config": {"model_type": SIGLIP, **vars(found.vision)},
        "text_config": language_section(text, found.language),
        "projection_dim": found.language.hidden_size,
    }
