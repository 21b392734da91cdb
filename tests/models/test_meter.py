"""METER: both fusion orders, its formats, and the ladder down to ONNX Runtime and an engine."""

from pathlib import Path

import pytest
import random_checkpoint
import torch

from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.load import load
from pumer_convert.convert.plan import edits_of, make_plan
from pumer_convert.models.meter import FAMILY
from pumer_convert.recipe.schema import load_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("meter*.yaml"))
FAST = {"meter-fast": (2.2, 39.40), "meter-faster": (3.0, 30.32)}
"""Least ratio, and the GMACs that the recipe's first lines tell, the reducers' own included."""


def original(file: Path, task: str = "vqa") -> Path:
    return random_checkpoint.write(file, "meter", "original", task)


def recipe(file: Path, ratio: float) -> Path:
    file.write_text(
        "recipe: 1\nmodel: meter\nreduce:\n  - at: fusion.0-2\n"
        f"    prune: {{image: {ratio}}}\n    merge: {{image: {ratio}, text: {ratio}}}\n"
    )
    return file


def batch(images: int = 1, text: int = 11) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 99, (3, text), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, text - text // 3 :] = 0
    ids[mask == 0] = 1
    shape = (3, images, 3, 48, 48) if images > 1 else (3, 3, 48, 48)
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": torch.randn(shape, generator=generator)}


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def test_the_fusion_order_belongs_to_the_checkpoint(tmp_path: Path) -> None:
    source = original(tmp_path / "meter.ckpt")
    folder = random_checkpoint.write(tmp_path / "pumer", "meter", "published")
    assert open_checkpoint(source).config["fusion_order"] == "parallel"
    found = open_checkpoint(folder).config
    assert found["fusion_order"] == "sequential"
    assert [edit["at"] for edit in found["pumer"]["edits"]] == ["fusion.0", "fusion.1", "fusion.2", "fusion.3"]
    inputs = batch(text=32)
    output = load(folder)(**inputs)
    assert (output.image.states.shape[1], output.text.states.shape[1]) == (5, 14)
    assert not torch.allclose(output.logits, load(source)(**inputs).logits, atol=1e-3)


@pytest.mark.parametrize("path", [p for p in RECIPES if p.stem in FAST], ids=lambda p: p.stem)
def test_the_fast_recipes_save_what_they_tell(path: Path) -> None:
    shape = FAMILY.spec(random_checkpoint.config("meter", "vqa", base=True))
    plan = make_plan(shape, edits_of(load_recipe(path), shape), 32)
    least, reduced = FAST[path.stem]
    assert plan.ratio >= least
    assert round((plan.macs + plan.reducer_macs) / 1e9, 2) == reduced
    assert plan.reducer_macs < 0.004 * plan.macs
    told = path.read_text()
    assert f"x{plan.ratio:.2f} fewer MACs" in told
    assert f"{plan.dense_macs / 1e9:.2f} -> {reduced:.2f} GMACs" in told


@pytest.mark.parametrize("path", [p for p in RECIPES if p.stem not in FAST], ids=lambda p: p.stem)
def test_every_recipe_is_planned_within_one_percent_of_the_published_macs(path: Path) -> None:
    task = {"meter-ve": "ve", "meter-nlvr2": "nlvr2"}.get(path.stem, "vqa")
    shape = FAMILY.spec(random_checkpoint.config("meter", task, base=True))
    plan = make_plan(shape, edits_of(load_recipe(path), shape), 32)
    dense, reduced = {"ve": (91.9, 59.0), "nlvr2": (103.2, 74.2)}.get(task, (91.9, 64.6))
    assert plan.dense_macs / 1e9 == pytest.approx(dense, rel=0.01)
    assert plan.macs / 1e9 == pytest.approx(reduced, rel=0.01)
