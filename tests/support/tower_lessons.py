"""Tiny models of two towers, reduced, with pictures, captions and classes to teach them by."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tiny_clip
import tiny_siglip
import torch
import torch.nn.functional as F
from PIL import Image

import pumer_convert
from pumer_convert.data.sample import FilePicture, Sample
from pumer_convert.recipe.settings import DistillSettings

WRITE: dict[str, Callable[..., Path]] = {"clip": tiny_clip.write, "siglip": tiny_siglip.write}
QUICK = DistillSettings(epochs=1, batch_size=4, learning_rate=1e-3)


def dense(folder: Path, family: str = "clip", architecture: str = "", **vision: Any) -> Path:
    """A tiny checkpoint without dropout."""
    named = {"architecture": architecture} if architecture else {}
    return WRITE[family](folder, vision={"attention_dropout": 0.0, **vision}, **named)


def reduced(checkpoint: Path, family: str = "clip", more: str = "") -> Path:
    """The checkpoint with fewer tokens in each block, beside it."""
    recipe = checkpoint.with_suffix(".yaml")
    prune = f"{{image: 0.5, by: {'probe' if family == 'siglip' else 'cls'}_attention}}"
    recipe.write_text(f"recipe: 1\nmodel: {family}\nreduce:\n  - {{at: vision.0-3, prune: {prune}}}\n{more}")
    out = checkpoint.with_name(f"{checkpoint.name}-pumer")
    pumer_convert.apply(checkpoint, recipe, out)
    return out


def pictures(folder: Path, count: int = 8) -> list[FilePicture]:
    """Patterns, each its own."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for i in range(count):
        pattern = Image.fromarray(random.integers(0, 256, (48, 48, 3), np.uint8))
        pattern.resize((60, 50), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return [FilePicture(folder / f"{i}.png") for i in range(count)]


def captions(folder: Path) -> list[Sample]:
    """Two captions of each of four pictures."""
    words = ("the cat", "a red cat", "the star", "a star !", "red", "no cat", "a cat", "the red star")
    shown = pictures(folder)
    return [Sample(str(i), (shown[i // 2],), text, shown[i // 2].name, f"made:{i}") for i, text in enumerate(words)]


def alone(folder: Path) -> list[Sample]:
    return [Sample(str(i), (picture,), "", None, f"made:{i}") for i, picture in enumerate(pictures(folder))]


def classes(folder: Path) -> list[Sample]:
    return [Sample(str(i), (p,), "", ("cat", "star")[i % 2], f"made:{i}") for i, p in enumerate(pictures(folder))]


def embeddings(folder: Path, samples: list[Sample]) -> torch.Tensor:
    """Of the samples' pictures."""
    model, preprocessor = pumer_convert.load(folder), pumer_convert.Preprocessor.of(folder, graph="image")
    pixels = np.stack([preprocessor.pixels(sample.pictures[0].open()) for sample in samples])
    with torch.no_grad():
        return next(iter(model(torch.from_numpy(pixels)).outputs.values()))


def cosine(one: Path, other: Path, samples: list[Sample]) -> float:
    return float(F.cosine_similarity(embeddings(one, samples), embeddings(other, samples)).mean())
