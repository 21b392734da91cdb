"""Tiny checkpoints in the real formats with the real key names, made from the embedded demo's weights."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from pumer_convert.demo import CHECKPOINT

BLOCK = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}


def original_state() -> dict[str, torch.Tensor]:
    """The demo's weights under the original ViLT's names."""
    weights = load_file(CHECKPOINT / "model.safetensors")
    state: dict[str, torch.Tensor] = {}
    for name, value in weights.items():
        if name.startswith("vilt.encoder.layer."):
            number, rest = name.removeprefix("vilt.encoder.layer.").split(".", 1)
            part, kind = rest.rsplit(".", 1)
            if part == "attention.attention.query":
                thirds = [weights[name.replace("query", which)] for which in ("query", "key", "value")]
                state[f"transformer.blocks.{number}.attn.qkv.{kind}"] = torch.cat(thirds)
            elif part in BLOCK:
                state[f"transformer.blocks.{number}.{BLOCK[part]}.{kind}"] = value
            continue
        for new, old in (
            ("vilt.embeddings.text_embeddings.", "text_embeddings."),
            ("vilt.embeddings.patch_embeddings.projection.", "transformer.patch_embed.proj."),
            ("vilt.embeddings.token_type_embeddings.", "token_type_embeddings."),
            ("vilt.embeddings.cls_token", "transformer.cls_token"),
            ("vilt.embeddings.position_embeddings", "transformer.pos_embed"),
            ("vilt.layernorm.", "transformer.norm."),
            ("vilt.pooler.", "pooler."),
            ("classifier.", "vqa_classifier."),
        ):
            if name.startswith(new):
                state[old + name.removeprefix(new)] = value
                break
    return state


def original_vilt(file: Path) -> Path:
    """A Lightning .ckpt as the original ViLT's, with keys that are to be ignored."""
    state = original_state()
    state["text_embeddings.position_ids"] = torch.arange(40)[None]
    state["itm_score.fc.weight"] = torch.zeros(2, 64)
    hyper = {"config": {"num_heads": 2, "image_size": 96}}
    torch.save({"state_dict": state, "hyper_parameters": hyper, "epoch": 1}, file)
    return file


def published_vilt(folder: Path, reduced: bool = True) -> Path:
    """A published PuMer folder."""
    folder.mkdir()
    state = {k if k.startswith("vqa_") else f"vilt.{k}": v for k, v in original_state().items()}
    torch.save(state, folder / "pytorch_model.bin")
    config: dict[str, Any] = {
        "model_type": "vilt",
        "num_heads": 2,
        "sim_method": "mean_head",
        "merge_style": "tome",
    }
    if reduced:
        config |= {"reduce_layers": [1, 2, 4], "prune_r": 0.1, "merge_r": 0.3, "merge_text": 0.2}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def recipe(file: Path, body: str, semantics: str = "default") -> Path:
    """A recipe for the demo model with `body` under `reduce:`."""
    file.write_text(f"recipe: 1\nmodel: vilt\nsemantics: {semantics}\nreduce:\n{body}")
    return file


PUMER = "  - at: encoder.1,2,4\n    prune: {image: 0.1}\n    merge: {image: 0.3, text: 0.2}\n"
ZERO = "  - at: encoder.0-5\n    prune: {image: 0}\n    merge: {image: 0, text: 0}\n"


def batch(rows: int = 3, text: int = 11, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random inputs; every second row is padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 50, (rows, text), generator=generator)
    mask = torch.ones_like(ids)
    mask[1::2, text - text // 3 :] = 0
    ids[mask == 0] = 0
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "pixel_values": torch.randn(rows, 3, 96, 96, generator=generator),
    }
