"""show: what is drawn of pruned and merged patches, and what is told."""

import json
from pathlib import Path

import lessons
import numpy as np
import pytest
import tiny
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
    drawn = survivors(pixels, np.array([0, 1, -1, 1]), 1, 3)
    assert drawn[:, 0:2].tolist() == drawn[:, 4:6].tolist() == np.full((2, 2, 3), 80).tolist()
    assert (drawn[:, 2:4] == round(200 * DARK)).all()
    whole = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    np.testing.assert_array_equal(survivors(whole, np.arange(25), 4, 6), whole)


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
