"""Tiny LLaVA checkpoints as transformers saves them, with a processor."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2Config,
    SiglipVisionConfig,
)
from transformers.models.llava import LlavaImageProcessor
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

VISION = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": 48,
    "patch_size": 8,
}
LANGUAGE = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 99,
    "max_position_embeddings": 512,
}


def write(
    out: Path,
    tower: str = "clip",
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    vision: dict[str, Any] | None = None,
    shards: str = "5GB",
    **config: Any,
) -> Path:
    """A folder with random weights and a "clip" or "siglip" `tower` whose section says otherwise what `vision` says;
    `config` are keys of the whole. `shards`: the largest file of weights. Gives `out`."""
    values = {**VISION, **(vision or {})}
    own = CLIPVisionConfig(**values) if tower == "clip" else SiglipVisionConfig(vision_use_head=False, **values)
    language = LlamaConfig(**LANGUAGE)
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=own, text_config=language, image_token_index=98, **config)
    )
    _save(model, out, dtype, shards)
    side = own.image_size
    size = {"height": side, "width": side}
    LlavaImageProcessor(size={"shortest_edge": side}, crop_size=size).save_pretrained(out)
    return out


def write_onevision(
    out: Path,
    tower: str = "siglip",
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    vision: dict[str, Any] | None = None,
    **config: Any,
) -> Path:
    """A LLaVA-OneVision likewise, whose processor cuts a picture into 3 x 3 tiles at most."""
    values = {**VISION, **(vision or {})}
    own = CLIPVisionConfig(**values) if tower == "clip" else SiglipVisionConfig(vision_use_head=False, **values)
    side = own.image_size
    pinpoints = [[i * side, j * side] for i in range(1, 4) for j in range(1, 4)]
    marks = {"image_token_index": 98, "video_token_index": 97, "image_grid_pinpoints": pinpoints}
    torch.manual_seed(seed)
    model = LlavaOnevisionForConditionalGeneration(
        LlavaOnevisionConfig(vision_config=own, text_config=Qwen2Config(**LANGUAGE), **marks, **config)
    )
    _save(model, out, dtype)
    size = {"height": side, "width": side}
    LlavaOnevisionImageProcessorPil(size=size, image_grid_pinpoints=pinpoints).save_pretrained(out)
    return out


def _save(model: Any, out: Path, dtype: torch.dtype, shards: str = "5GB") -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() < 2:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:
                parameter.normal_(0, 0.5 if "embedding.w" in name else 1.2 / parameter[0].numel() ** 0.5)
    model.to(dtype).save_pretrained(out, max_shard_size=shards)
