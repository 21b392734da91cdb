"""Tiny DINOv2 checkpoints as transformers saves them, with a processor."""

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import BitImageProcessor, Dinov2Config, Dinov2WithRegistersConfig

CLASSES = ("Dinov2Model", "Dinov2WithRegistersModel")
VALUES = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "mlp_ratio": 2,
    "image_size": 48,
    "patch_size": 8,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "drop_path_rate": 0.1,
}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def write(
    out: Path,
    architecture: str = "Dinov2Model",
    *,
    side: int | None = None,
    dtype: torch.dtype = torch.float32,
    **values: Any,
) -> Path:
    """A folder of this class with random weights, whose config says otherwise what `values` say. Its processor resizes
    the shorter side and cuts out the middle, a square of `side` (None: of the config's image_size). Gives `out`."""
    kind = Dinov2WithRegistersConfig if "Registers" in architecture else Dinov2Config
    torch.manual_seed(0)
    model = getattr(transformers, architecture)(kind(**{**VALUES, **values}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() < 2:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:
                parameter.normal_(0, 0.5 if "embeddings." in name else 1.2 / parameter[0].numel() ** 0.5)
    model.to(dtype).save_pretrained(out)
    side = side or model.config.image_size
    size = {"size": {"shortest_edge": side + side // 7}, "crop_size": {"height": side, "width": side}}
    BitImageProcessor(**size, **IMAGENET).save_pretrained(out)
    return out
