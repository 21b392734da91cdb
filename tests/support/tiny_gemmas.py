"""Tiny PaliGemma and Gemma 3 checkpoints as transformers saves them, with a processor of pictures."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    GemmaConfig,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    SiglipVisionConfig,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

VISION = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": 48,
    "patch_size": 8,
    "vision_use_head": False,
}
LANGUAGE = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 99,
    "max_position_embeddings": 512,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "pad_token_id": 0,
}
IMAGE = 98


def _saved(model: Any, out: Path, processor: Any, seed: int, dtype: torch.dtype) -> Path:
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() < 2:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:
                parameter.normal_(0, 0.5 if "embedding.w" in name else 1.2 / parameter[0].numel() ** 0.5)
    model.to(dtype).save_pretrained(out)
    processor.save_pretrained(out)
    return out


def write_paligemma(
    out: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32, vision: dict[str, Any] | None = None, **config: Any
) -> Path:
    """A PaliGemma with random weights, its tower's section otherwise as `vision` says. Gives `out`."""
    own = SiglipVisionConfig(**{**VISION, **(vision or {})})
    language, side = GemmaConfig(**LANGUAGE), own.image_size
    config = {"image_token_index": IMAGE, "projection_dim": 48, "hidden_size": 48, **config}
    model = PaliGemmaForConditionalGeneration(PaliGemmaConfig(vision_config=own, text_config=language, **config))
    processor = SiglipImageProcessorPil(size={"height": side, "width": side}, image_seq_length=36)
    return _saved(model, out, processor, seed, dtype)


def write_gemma3(
    out: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32, vision: dict[str, Any] | None = None, **config: Any
) -> Path:
    """A Gemma 3 likewise, whose 36 patches are pooled to 9 tokens."""
    own = SiglipVisionConfig(**{**VISION, **(vision or {})})
    language, side = Gemma3TextConfig(**LANGUAGE, sliding_window=64), own.image_size
    marks = {"boi_token_index": 96, "eoi_token_index": 97, "image_token_index": IMAGE}
    config = {"mm_tokens_per_image": 9, **marks, **config}
    model = Gemma3ForConditionalGeneration(Gemma3Config(text_config=language, vision_config=own, **config))
    return _saved(model, out, Gemma3ImageProcessorPil(size={"height": side, "width": side}), seed, dtype)
