"""Tiny checkpoints in the real formats with the real key names, made from the embedded demo's weights."""

import json
from pathlib import Path

import random_checkpoint
import torch
from safetensors.torch import load_file

from pumer_convert.demo import CHECKPOINT


def _write(out: Path, form: str) -> Path:
    state = load_file(CHECKPOINT / "model.safetensors")
    heads = json.loads((CHECKPOINT / "config.json").read_text())["num_attention_heads"]
    return random_checkpoint.write(out, "vilt", form, state=state, heads=heads)


def original_vilt(file: Path) -> Path:
    """A Lightning .ckpt as the original ViLT's."""
    return _write(file, "original")


def published_vilt(folder: Path, reduced: bool = True) -> Path:
    """A published PuMer folder, its last layer number beyond this model's six layers."""
    return _write(folder, "published" if reduced else "published-dense")


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
