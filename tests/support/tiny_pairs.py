"""Tiny VisionTextDualEncoderModels as transformers saves them, of both kinds of either tower, with a processor and a
tokenizer."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import VisionTextDualEncoderConfig, VisionTextDualEncoderModel, VisionTextDualEncoderProcessor

VISION: dict[str, tuple[Any, Any]] = {
    "vit": (transformers.ViTConfig, transformers.ViTImageProcessor),
    "clip_vision_model": (transformers.CLIPVisionConfig, transformers.CLIPImageProcessor),
}
TEXT = {"bert": transformers.BertConfig, "roberta": transformers.RobertaConfig}
SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
PIXELS = {"image_size": 48, "patch_size": 8}
WORDS = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 45,
}
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789!?.,'"


def tokenizer(kind: str) -> Any:
    """One with letters and a few words, of the kind of the text's tower."""
    if kind == "bert":
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
        words += ["the", "cat", "red", "star", "is", "not", "here", "moon", "##ing"]
        return transformers.BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    merges = [("t", "h"), ("th", "e"), ("c", "a"), ("ca", "t"), ("Ġ", "a")]
    words = ["<s>", "<pad>", "</s>", "<unk>", *LETTERS, "Ġ", *("".join(pair) for pair in merges), "<mask>"]
    return transformers.RobertaTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=merges)


def write(
    out: Path,
    vision: str = "vit",
    text: str = "bert",
    *,
    dtype: torch.dtype = torch.float32,
    pictures: dict[str, Any] | None = None,
    words: dict[str, Any] | None = None,
    **saved: Any,
) -> Path:
    """A folder with random weights, of which the sections say what `pictures` and `words` say; `saved` goes to
    save_pretrained. Gives `out`."""
    config, processor = VISION[vision]
    own = tokenizer(text)
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        config(**{**SIZES, **PIXELS, **(pictures or {})}),
        TEXT[text](**{**WORDS, "vocab_size": len(own), "pad_token_id": own.pad_token_id, **(words or {})}),
        projection_dim=24,
    )
    torch.manual_seed(0)
    model = VisionTextDualEncoderModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() < 2:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif "embedding" in name and "projection" not in name and "patch" not in name:
                parameter.normal_(0, 0.5)
            else:
                parameter.normal_(0, 1.2 / parameter[0].numel() ** 0.5)
    model.to(dtype).save_pretrained(out, **saved)
    side = config.vision_config.image_size
    size = {"shortest_edge": side} if vision == "clip_vision_model" else {"height": side, "width": side}
    crop = {"crop_size": {"height": side, "width": side}} if vision == "clip_vision_model" else {}
    VisionTextDualEncoderProcessor(processor(size=size, **crop), own).save_pretrained(out)
    return out


def edit(folder: Path, change: Any) -> Path:
    """The folder with its config.json as `change` leaves it."""
    file = folder / "config.json"
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))
    return folder
