"""Tiny InternVL checkpoints as transformers saves them, with a processor of pictures."""

from pathlib import Path
from typing import Any

import torch
from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig, Qwen2Config
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

VISION = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": 48,
    "patch_size": 8,
    "attention_bias": True,
}
LANGUAGE = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 99,
    "max_position_embeddings": 512,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "pad_token_id": 0,
}
IMAGE = 98


def write(
    out: Path,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    vision: dict[str, Any] | None = None,
    shards: str = "5GB",
    **config: Any,
) -> Path:
    """An InternVL with random weights, whose 36 patches are 9 tokens and whose tower's section says otherwise what
    `vision` says; `config` are keys of the whole. `shards`: the largest file of weights. Gives `out`."""
    own = InternVLVisionConfig(**{**VISION, **(vision or {})})
    torch.manual_seed(seed)
    values = {"image_token_id": IMAGE, "image_seq_length": 9, **config}
    model = InternVLForConditionalGeneration(
        InternVLConfig(vision_config=own, text_config=Qwen2Config(**LANGUAGE), **values)
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lambda" in name:
                parameter.copy_(0.7 + torch.rand_like(parameter) * 0.3)
            elif parameter.dim() < 2:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif "_token" in name or "position" in name or "embed_tokens" in name:
                parameter.normal_(0, 0.5)
            else:
                parameter.normal_(0, 1.2 / parameter[0].numel() ** 0.5)
    model.to(dtype).save_pretrained(out, max_shard_size=shards)
    height, width = own.image_size
    GotOcr2ImageProcessorPil(size={"height": height, "width": width}).save_pretrained(out)
    return out
