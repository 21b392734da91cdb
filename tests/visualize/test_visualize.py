"""show: what is drawn of pruned and merged patches, and what is told."""

import json
import math
from pathlib import Path
from typing import Any

import lessons
import numpy as np
import pytest
import tiny
import tiny_clip
import tiny_dinov2
import tiny_gemmas
import tiny_internvl
import tiny_llava
import tiny_siglip
import tiny_tiles
from click.testing import CliRunner
from PIL import Image

import pumer_convert
from pumer_convert.cli import cli
from pumer_convert.demo import CHECKPOINT
from pumer_convert.demo.path import lessons as scenes
from pumer_convert.errors import InputError
from pumer_convert.visualize.visualize import DARK, survivors


def test_pruned_is_dark_and_merged_is_the_mean() -> None:
    pixels = np.zeros((2, 6, 3), np.uint8)  # one row of three patches of 2 x 2
    pixels[:, 0:2], pixels[:, 2:4], pixels[:, 4:6] = 100, 200, 60
    drawn = survivors(pixels, np.array([1, -1, 1]), 1, 3)
    assert drawn[:, 0:2].tolist() == drawn[:, 4:6].tolist() == np.full((2, 2, 3), 80).tolist()
    assert (drawn[:, 2:4] == round(200 * DARK)).all()
    whole = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    np.testing.assert_array_equal(survivors(whole, np.arange(24), 4, 6), whole)


def test_the_verb(tmp_path: Path) -> None:
    pumer_convert.apply(CHECKPOINT, tiny.recipe(tmp_path / "recipe.yaml", tiny.PUMER), tmp_path / "out")
    (scene,) = scenes("vqa", "test", 1)
    scene.pictures[0].open().save(tmp_path / "scene.png")
    words = ["show", str(tmp_path / "out"), "--image", str(tmp_path / "scene.png"), "--text", scene.text]
    words += ["-o", str(tmp_path / "left.png"), "--json"]
    shown = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    report = json.loads(shown.stdout)
    assert report["patches"] == 144
    assert report["image_tokens"][0] == 145 > report["image_tokens"][1]
    assert 0 < report["pruned"][0] < 144
    assert report["answer"] == pumer_convert.Pipeline(tmp_path / "out")(tmp_path / "scene.png", scene.text).text
    with Image.open(tmp_path / "left.png") as drawn:
        assert drawn.size == (96 + 8 + 96, 96)
        seen, left = np.asarray(drawn)[:, :96], np.asarray(drawn)[:, 104:]
    with Image.open(tmp_path / "scene.png") as scene_png:
        np.testing.assert_array_equal(seen, np.asarray(scene_png.convert("RGB")))
    assert left.mean() < seen.mean()
    again = CliRunner().invoke(cli, words)
    assert "exists already" in str(again.exception)


def test_what_cannot_be_shown(tmp_path: Path) -> None:
    from pumer_convert.visualize.visualize import show

    picture = lessons.pictures(tmp_path, 1)[0]
    with pytest.raises(InputError, match="name a picture to draw"):
        show(CHECKPOINT, (picture,), "what?", tmp_path / "left.txt")
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(InputError, match="this takes the checkpoint it was made from"):
        show(tmp_path / "model.onnx", (picture,), "what?", tmp_path / "left.png")
    with pytest.raises(InputError, match="takes 1"):
        show(CHECKPOINT, (picture, picture), "what?", tmp_path / "left.png")
    assert not (tmp_path / "left.png").exists()


TOWERS: dict[str, tuple[Any, str, dict[str, Any], tuple[int, int, int]]] = {
    # how it is made, what is done to it, and tokens before and after, and the cells of the picture
    "clip": (tiny_clip.write, "{at: vision.1, merge: {image: 0.2}}", {}, (37, 30, 36)),
    "siglip": (tiny_siglip.write, "{at: vision.1, prune: {image: {keep: 9}, by: random}}", {}, (36, 9, 36)),
    "dinov2": (tiny_dinov2.write, "{at: vision.1, prune: {image: {keep: 9}, by: random}}", {}, (37, 9, 36)),
    "llava": (tiny_llava.write, "{at: projector, prune: {image: {keep: 9}, by: divprune}}", {}, (37, 9, 36)),
    "gemma3": (tiny_gemmas.write_gemma3, "{at: projector, prune: {image: {keep: 5}, by: divprune}}", {}, (9, 5, 9)),
    "internvl": (tiny_internvl.write, "{at: projector, prune: {image: {keep: 5}, by: divprune}}", {}, (9, 5, 9)),
    "idefics3": (
        tiny_tiles.write,
        "{at: projector, prune: {image: {keep: 5}, by: divprune}}",
        {"scale_factor": 2, "splits": True},
        (9, 5, 9),
    ),
}


@pytest.mark.parametrize("model", TOWERS)
def test_models_that_read_pictures_alone(model: str, tmp_path: Path) -> None:
    write, step, options, (before, after, cells) = TOWERS[model]
    write(tmp_path / "dense", **options)
    (tmp_path / "r.yaml").write_text(f"recipe: 1\nmodel: {model}\nreduce:\n  - {step}\n")
    pumer_convert.apply(tmp_path / "dense", tmp_path / "r.yaml", tmp_path / "out")
    noise = np.random.default_rng(0).integers(60, 256, (48, 48, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "p.png")
    words = ["show", str(tmp_path / "out"), "--image", str(tmp_path / "p.png"), "-o", str(tmp_path / "left.png")]
    shown = CliRunner().invoke(cli, [*words, "--json"], catch_exceptions=False)
    report = json.loads(shown.stdout)
    assert (report["image_tokens"], report["patches"]) == ([before, after], cells)
    tiles = len(report["pruned"])
    assert (tiles > 1) == (model == "idefics3")
    gone = 0 if model == "clip" else cells - after + (model == "dinov2")  # of which CLS is one that is left
    assert report["pruned"] == [gone] * tiles
    with Image.open(tmp_path / "left.png") as drawn:
        left = np.asarray(drawn)[:48, 56:].astype(int)
    rows = math.isqrt(cells)
    dark = left.reshape(rows, 48 // rows, rows, 48 // rows, 3).max((1, 3, 4)) < 60 * 0.7
    assert int(dark.sum()) == gone
    with pytest.raises(InputError, match="reads its pictures without a text; leave it out"):
        CliRunner().invoke(cli, [*words, "--text", "what?", "--overwrite"], catch_exceptions=False)
    with pytest.raises(InputError, match="takes one picture at a time, not 2"):
        CliRunner().invoke(cli, [*words, "--image", str(tmp_path / "p.png"), "--overwrite"], catch_exceptions=False)


def test_a_model_that_answers_needs_a_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="answers a question; give it the text"):
        pumer_convert.show(CHECKPOINT, lessons.pictures(tmp_path, 1)[0], None, tmp_path / "left.png")
