"""transformers' classes of whole models, which `pumer_convert.register` puts ours in place of."""

from typing import Any

from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

DENSE: dict[str, Any] = {
    "llava": LlavaForConditionalGeneration,
    "paligemma": PaliGemmaForConditionalGeneration,
    "gemma3": Gemma3ForConditionalGeneration,
    "internvl": InternVLForConditionalGeneration,
    "llava_onevision": LlavaOnevisionForConditionalGeneration,
    "idefics3": Idefics3ForConditionalGeneration,
    "smolvlm": SmolVLMForConditionalGeneration,
}


def restore() -> None:
    """From now on AutoModelForImageTextToText loads those again."""
    configs = (LlavaConfig, PaliGemmaConfig, Gemma3Config, LlavaOnevisionConfig, Idefics3Config, SmolVLMConfig)
    for config in (*configs, InternVLConfig):
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING.register(config, DENSE[config.model_type], exist_ok=True)
