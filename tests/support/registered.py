"""transformers' classes of whole models, which `pumer_convert.register` puts ours in place of."""

from typing import Any

from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

DENSE: dict[str, Any] = {
    "llava": LlavaForConditionalGeneration,
    "paligemma": PaliGemmaForConditionalGeneration,
    "gemma3": Gemma3ForConditionalGeneration,
    "internvl": InternVLForConditionalGeneration,
}


def restore() -> None:
    """From now on AutoModelForImageTextToText loads those again."""
    for config in (LlavaConfig, PaliGemmaConfig, Gemma3Config, InternVLConfig):
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING.register(config, DENSE[config.model_type], exist_ok=True)
