"""Tiny CLIP checkpoints as transformers saves them, with a processor and a tokenizer."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CLIPConfig, CLIPImageProcessor, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

CLASSES = (
    "CLIPModel",
    "CLIPVisionModelWithProjection",
    "CLIPVisionModel",
    "CLIPTextModelWithProjection",
    "CLIPTextModel",
)
START, END = "<|startoftext|>", "<|endoftext|>"
TEXT = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 77,
    "projection_dim": 24,
    "attention_dropout": 0.1,
}
VISION = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": 48,
    "patch_size": 8,
    "projection_dim": 24,
    "attention_dropout": 0.1,
}


def tokenizer() -> CLIPTokenizer:
    """CLIP's own kind with letters and a few merges; it ends texts with its largest id and fills them up with it."""
    letters = sorted({*"abcdefghijklmnopqrstuvwxyz0123456789!?.,'"})
    merges = ["t h", "th e</w>", "c a", "ca t</w>", "r e", "re d</w>", "s t", "st a", "sta r</w>"]
    words = [
        *letters,
        *(letter + "</w>" for letter in letters),
        *("".join(pair.split()) for pair in merges),
        START,
        END,
    ]
    numbers = {word: i for i, word in enumerate(words)}
    return CLIPTokenizer(vocab=numbers, merges=[tuple(pair.split()) for pair in merges])


def write(
    out: Path,
    architecture: str = "CLIPModel",
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    text: dict[str, Any] | None = None,
    vision: dict[str, Any] | None = None,
    **saved: Any,
) -> Path:
    """A folder of this class with random weights, of which the `text` and `vision` sections say otherwise what they
    say; `saved` goes to save_pretrained. Gives `out`."""
    words = tokenizer()
    ids = {"vocab_size": len(words), "bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1}
    config = CLIPConfig(
        text_config=CLIPTextConfig(**{**TEXT, **ids, **(text or {})}).to_dict(),
        vision_config=CLIPVisionConfig(**{**VISION, **(vision or {})}).to_dict(),
        projection_dim=24,
    )
    if architecture != "CLIPModel":
        config = config.vision_config if "Vision" in architecture else config.text_config
    torch.manual_seed(seed)
    model = getattr(transformers, architecture)(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() < 2:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:
                parameter.normal_(0, 0.5 if "embedding.w" in name else 1.2 / parameter[0].numel() ** 0.5)
    model.to(dtype).save_pretrained(out, **saved)
    if "Vision" not in architecture:
        words.save_pretrained(out)
    if "Text" not in architecture:
        side = config.vision_config.image_size if architecture == "CLIPModel" else config.image_size
        CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side}).save_pretrained(out)
    return out


def edit(folder: Path, change: Any) -> Path:
    """The folder with its config.json as `change` leaves it."""
    file = folder / "config.json"
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))
    return folder
