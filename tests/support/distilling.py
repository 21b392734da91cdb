"""Short trainings of tiny models."""

import json
from pathlib import Path
from typing import Any

import lessons
import torch
from safetensors.torch import load_file

import pumer_convert
from pumer_convert.recipe.settings import DistillSettings

QUICK = DistillSettings(epochs=1, batch_size=4, learning_rate=1e-3, head_multiplier=1.0, candidates=3)


def distill(student: Path, out: Path, settings: DistillSettings = QUICK, task: str = "vqa", **more: Any) -> Any:
    """Train on the eight samples of `lessons`."""
    samples = lessons.samples(out.parent / "pictures", task)
    given: dict[str, Any] = {"teacher": None, "validation": None, "train": samples, **more}
    return pumer_convert.distill(
        student, given.pop("teacher"), given.pop("train"), given.pop("validation"), out, settings, **given
    )


def losses(out: Path) -> list[float]:
    """The losses in a metrics.jsonl."""
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [record["loss"] for record in records if "loss" in record]


def same_weights(a: Path, b: Path) -> bool:
    first, second = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
