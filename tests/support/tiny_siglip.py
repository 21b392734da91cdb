"""Tiny SigLIP checkpoints as transformers saves them, with a processor; their tokenizers would be of sentencepiece."""

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import SiglipConfig, SiglipImageProcessor, SiglipTextConfig, SiglipVisionConfig

CLASSES = ("SiglipModel", "SiglipVisionModel", "SiglipTextModel")
TEXT = {
    "vocab_size": 99,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
    "projection_size": 64,
    "attention_dropout": 0.1,
}
VISION = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": 48,
    "patch_size": 8,
    "attention_dropout": 0.1,
}


def write(
    out: Path,
    architecture: str = "SiglipModel",
    *,
    dtype: torch.dtype = torch.float32,
    text: dict[str, Any] | None = None,
    vision: dict[str, Any] | None = None,
    **saved: Any,
) -> Path:
    """A folder of this class with random weights, of which the `text` and `vision` sections say otherwise what they
    say; `saved` goes to save_pretrained. Gives `out`."""
    config = SiglipConfig(
        text_config=SiglipTextConfig(**{**TEXT, **(text or {})}).to_dict(),
        vision_config=SiglipVisionConfig(**{**VISION, **(vision or {})}).to_dict(),
    )
    if architecture != "SiglipModel":
        config = config.vision_config if "Vision" in architecture else config.text_config
    torch.manual_seed(0)
    model = getattr(transformers, architecture)(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() < 2:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:
                parameter.normal_(0, 0.5 if "embedding.w" in name else 1.2 / parameter[0].numel() ** 0.5)
    model.to(dtype).save_pretrained(out, **saved)
    if "Text" not in architecture:
        side = config.vision_config.image_size if architecture == "SiglipModel" else config.image_size
        SiglipImageProcessor(size={"height": side, "width": side}).save_pretrained(out)
    return out
