"""A tiny checkpoint of every family and task, and a recipe that reduces it wherever it can be."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import random_checkpoint
import saved_bridgetower
import tiny_clip
import tiny_dinov2
import tiny_fdt
import tiny_gemmas
import tiny_internvl
import tiny_llava
import tiny_pairs
import tiny_siglip
import tiny_tiles
import toy_dual
import toy_memory

from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.load import spec_of
from pumer_convert.models.family import FAMILIES
from pumer_convert.weights import EMBEDDINGS

TOYS = {"toy_dual": "toy_dual", "toy_memory": "toy_memory"}
"""Families of the tests alone, as they stand in the registry."""


def _random(family: str, form: str, task: str, **layers: int) -> Callable[[Path], Path]:
    return lambda path: random_checkpoint.write(path, family, form, task, **layers)  # type: ignore[arg-type]


def _bridgetower(task: str) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        saved_bridgetower.write(path, task)
        return path

    return write


def _pair(vision: str, text: str) -> Callable[[Path], Path]:
    return lambda path: tiny_pairs.write(path, vision, text)


MADE: dict[tuple[str, ...], Callable[[Path], Path]] = {
    **{("vilt", task): _random("vilt", "transformers", task, depth=3) for task in random_checkpoint.TASKS},
    **{("meter", task): _random("meter", "original", task, depth=3, fusion=2) for task in random_checkpoint.TASKS},
    **{("bridgetower", task): _bridgetower(task) for task in saved_bridgetower.HEADS},
    ("clip", EMBEDDINGS): tiny_clip.write,
    ("siglip", EMBEDDINGS): tiny_siglip.write,
    ("clip-fdt", EMBEDDINGS): tiny_fdt.write,
    ("dinov2", EMBEDDINGS): tiny_dinov2.write,
    ("llava", EMBEDDINGS): tiny_llava.write,
    ("paligemma", EMBEDDINGS): tiny_gemmas.write_paligemma,
    ("gemma3", EMBEDDINGS): tiny_gemmas.write_gemma3,
    ("internvl", EMBEDDINGS): tiny_internvl.write,
    ("llava_onevision", EMBEDDINGS): tiny_llava.write_onevision,
    ("idefics3", EMBEDDINGS): tiny_tiles.write,
    ("smolvlm", EMBEDDINGS): tiny_tiles.write_smolvlm,
    ("vision-text-dual-encoder", EMBEDDINGS): _pair("vit", "bert"),
    ("vision-text-dual-encoder", EMBEDDINGS, "clip"): _pair("clip_vision_model", "roberta"),
    ("toy_dual", EMBEDDINGS): toy_dual.write,
    ("toy_memory", EMBEDDINGS): toy_memory.write,
}
"""(family, task), and what tells apart several -> what writes a tiny checkpoint to a place."""


def registered() -> Iterator[None]:
    """While it runs the toys are families; for a fixture."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in TOYS.items():
            patch.setitem(FAMILIES, name, module)
        yield


def recipe(checkpoint: Path, file: Path, share: float, *, few: bool = False) -> Path:
    """At every site of the checkpoint, or a `few` (one of each stack of layers, and those of no stack), prune and merge
    all that can be, this share of it; where what follows takes a grid, merge for all to come back."""
    found = open_checkpoint(checkpoint)
    spec, lines = spec_of(found), []
    for layer in spec.layers:
        if layer.site is None or (few and "." in layer.site and not layer.site.endswith(".1")):
            continue
        merged = ", ".join(f"{modality}: {share}" for modality in layer.modalities)
        if layer.gridded:
            lines.append(f"  - {{at: {layer.site}, merge: {{{merged}}}, unmerge: {layer.unmerges[0]}}}\n")
            continue
        by = next(
            (score for score in ("relevance", "codebook", "cls_attention", "probe_attention") if score in layer.scores),
            "random",
        )
        lines.append(f"  - {{at: {layer.site}, prune: {{image: {share}, by: {by}}}, merge: {{{merged}}}}}\n")
    file.write_text(f"recipe: 1\nmodel: {found.family}\nreduce:\n{''.join(lines)}")
    return file
