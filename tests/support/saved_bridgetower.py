"""Small BridgeTower folders as transformers itself saves them: model, processor and tokenizer, with random weights."""

import json
import re
import string
from pathlib import Path
from typing import Any

import torch
import transformers

RETRIEVAL, CONTRASTIVE = "BridgeTowerForImageAndTextRetrieval", "BridgeTowerForContrastiveLearning"
HEADS = {"retrieval": RETRIEVAL, "embeddings": CONTRASTIVE}
NORM = re.compile(r"(norm|ln_\w+)\.weight$", re.IGNORECASE)
PIECES = ("<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ", *string.ascii_lowercase, *"?.,", "hi", "Ġhi")
"""A vocabulary of RoBERTa's kind, of letters and few words."""


def config(
    layers: int = 3,
    fusion: int = 2,
    text: dict[str, Any] | None = None,
    vision: dict[str, Any] | None = None,
    **more: Any,
) -> Any:
    """transformers' config of a small one: towers of `layers`, and other values of it and its sections."""
    words = {"hidden_size": 64, "num_hidden_layers": layers, "num_attention_heads": 4, "intermediate_size": 128}
    words |= {"vocab_size": 99, "max_position_embeddings": 48}
    picture = {"hidden_size": 128, "num_hidden_layers": layers, "image_size": 48, "patch_size": 8}
    own = {"hidden_size": 64, "num_hidden_layers": fusion, "contrastive_hidden_size": 24, "logit_scale_init_value": 2.6}
    return transformers.BridgeTowerConfig(
        text_config={**words, **(text or {})}, vision_config={**picture, **(vision or {})}, **{**own, **more}
    )


def write(folder: Path, task: str = "retrieval", head: str | None = None, **more: Any) -> Any:
    """A folder for a task, or with a `head` of this name; gives transformers' model."""
    if task == "embeddings":
        more = {**more, "vision": {"hidden_size": 64, **more.get("vision", {})}}
    torch.manual_seed(5)
    model = getattr(transformers, head or HEADS[task])(config(**more)).eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.12 if "embedding" in name else 1.2 / parameter[0].numel() ** 0.5)
        else:
            torch.nn.init.normal_(parameter, float(bool(NORM.search(name))), 0.1)
    model.save_pretrained(folder)
    side = {"shortest_edge": model.config.vision_config.image_size}
    transformers.BridgeTowerImageProcessorPil(size=side, crop_size=side, size_divisor=8).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(PIECES)}), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\nh i\nĠ hi\n", "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RobertaTokenizer"}))
    return model


def batch(side: int = 48, rows: int = 3, text: int = 11) -> dict[str, torch.Tensor]:
    """Random inputs; every second row is padded on the right."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 99, (rows, text), generator=generator)
    mask = torch.ones_like(ids)
    mask[1::2, text - text // 3 :] = 0
    ids[mask == 0] = 1
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "pixel_values": torch.randn(rows, 3, side, side, generator=generator),
    }


def answers(model: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What transformers answers: for retrieval how much higher its second logit is."""
    with torch.no_grad():
        output = model(**inputs)
    if "text_embeds" in output:
        return {name: output[name] for name in ("text_embeds", "image_embeds", "cross_embeds")}
    return {"logits": output.logits[:, 1:] - output.logits[:, :1]}
