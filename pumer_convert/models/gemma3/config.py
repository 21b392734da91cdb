"""What the config.json of a Gemma 3 may say, as typed values; torch-free."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pumer_convert.models.towers.language import LanguageSettings
from pumer_convert.models.towers.squares import Pooled
from pumer_convert.models.towers.vision_part import (
    SIGLIP,
    VisionPart,
    check_config_keys,
    language_section,
    siglip_tower,
)
from pumer_convert.models.values import WHOLE, only_architecture, read_values, wrong
from pumer_convert.rules import setting

_MARKS = ("boi_token_index", "eoi_token_index", "boi_token_id", "eoi_token_id")
"""Which tokens stand around a picture's."""
ARCHITECTURES = ("Gemma3ForConditionalGeneration", "Gemma3Model")


@dataclass(frozen=True)
class _Own:
    mm_tokens_per_image: int = setting(256, int, least=1, most=WHOLE)


def settings_of(config: Mapping[str, Any], where: object = "the model") -> VisionPart:
    """The values of a config of `model_type` "gemma3". Raises InputError, beginning with `where`, for a key that is not
    known, a value that is not allowed, and values that do not go together."""
    check_config_keys(config, {"mm_tokens_per_image", *_MARKS}, where)
    vision = siglip_tower(config, {}, where)
    tokens = read_values(_Own, config, where)["mm_tokens_per_image"]
    side = math.isqrt(tokens)
    if side * side != tokens:
        raise wrong(where, "mm_tokens_per_image", tokens, "it has to be the square of a number")
    return VisionPart(
        architecture=only_architecture(config, ARCHITECTURES, where) or ARCHITECTURES[0],
        vision=vision,
        language=LanguageSettings.read(config, "gemma3_text", where),
        taps=(vision.num_hidden_layers,),
        trimmed=False,
        normed=True,
        squares=Pooled(side),
    )


def checked_config(config: Mapping[str, Any], where: object) -> dict[str, Any]:
    """A config with every value that is read here in one form and transformers' defaults filled in; the language
    model's section stays as it is. Raises InputError; see `settings_of`."""
    found = settings_of(config, where)
    return {
        **config,
        "model_type": "gemma3",
        "architectures": [found.architecture],
        "vision_config": {"model_type": SIGLIP, **vars(found.vision)},
        "text_config": language_section(config.get("text_config"), found.language),
        "mm_tokens_per_image": read_values(_Own, config, where)["mm_tokens_per_image"],
    }
