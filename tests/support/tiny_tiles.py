"""Tiny Idefics3 and SmolVLM checkpoints as transformers saves them, with a processor of pictures."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    LlamaConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

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
    "vocab_size": 128,
    "max_position_embeddings": 2048,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "pad_token_id": 0,
}
IMAGE = 98
KINDS: dict[str, tuple[Any, Any, Any]] = {
    "idefics3": (Idefics3Config, Idefics3ForConditionalGeneration, Idefics3ImageProcessorPil),
    "smolvlm": (SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMImageProcessorPil),
}


def write(
    out: Path,
    kind: str = "idefics3",
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    vision: dict[str, Any] | None = None,
    splits: bool = False,
    **config: Any,
) -> Path:
    """An Idefics3 or a SmolVLM with random weights, its tower's section otherwise as `vision` says: of 36 patches of a
    tile 9 become one token. Its processor `splits` pictures into tiles, or not. Gives `out`."""
    make_config, make, make_processor = KINDS[kind]
    own = {**VISION, **(vision or {})}
    config = {"image_token_id": IMAGE, "scale_factor": 3, "tie_word_embeddings": False, **config}
    torch.manual_seed(seed)
    model = make(make_config(vision_config=own, text_config=LlamaConfig(**LANGUAGE).to_dict(), **config))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() < 2:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:
                parameter.normal_(0, 0.5 if "embedding.w" in name else 1.2 / parameter[0].numel() ** 0.5)
    model.to(dtype).save_pretrained(out)
    side = own["image_size"]
    processor = make_processor(
        size={"longest_edge": 4 * side}, max_image_size={"longest_edge": side}, do_image_splitting=splits
    )
    processor.save_pretrained(out)
    return out


def write_smolvlm(out: Path, **options: Any) -> Path:
    """A SmolVLM likewise."""
    return write(out, "smolvlm", **options)
