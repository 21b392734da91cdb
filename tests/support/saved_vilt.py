"""Small ViLTs that transformers makes and saves, and inputs for them."""

from pathlib import Path
from typing import Any

import torch
import transformers
from draw_config import HEADS
from draws import random_weights


def save(kwargs: dict[str, Any], folder: Path, seed: int) -> torch.nn.Module:
    """Saves a model of this config, with random weights, into `folder`; gives transformers' model of these files."""
    config = transformers.ViltConfig(**kwargs)
    config._attn_implementation = "eager"
    kind = getattr(transformers, kwargs["architectures"][0])
    torch.manual_seed(seed)
    model = kind(config).eval()
    random_weights(model)
    model.save_pretrained(folder)
    return kind.from_pretrained(folder, attn_implementation="eager").eval()


def inputs(config: Any, seed: int) -> dict[str, torch.Tensor]:
    """Random inputs of two examples for transformers' config, the second padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    length, side = min(config.max_position_embeddings, 9), config.image_size
    ids = torch.randint(2, config.vocab_size, (2, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, length // 2 :] = 0
    images = [config.num_images] if config.architectures == [HEADS[1]] and config.num_images > 1 else []
    pixels = torch.randn(2, *images, config.num_channels, side, side, generator=generator)
    return {"input_ids": ids * mask, "attention_mask": mask, "pixel_values": pixels}
