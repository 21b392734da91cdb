"""The small LLaVA of scenes: trained, reduced, taught and measured; here for a few steps."""

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
import tiny_vlm
import torch
import vlm_training
from click.testing import CliRunner
from vlm_scenes import KINDS, PAIRS, questions, scene_of, shown

from pumer_convert.demo.scene import COLORS, SHAPES, split_of


def test_scenes_and_what_is_asked_of_them() -> None:
    kinds = set()
    for i in range(20):
        scene = scene_of(Random(i), "test")
        assert split_of(scene) == "test"
        found = questions(Random(i), scene)
        kinds |= {question.kind for question in found}
        assert all(word in vlm_training.NUMBERS for q in found for word in f"{q.text} {q.answer}".split())
        picture, labels, there = shown(scene, vlm_training.PATCH)
        assert picture.shape == (96, 96, 3)
        numbers = {COLORS.index(t.color) * len(SHAPES) + SHAPES.index(t.shape) for t in scene.things}
        assert set(np.flatnonzero(there)) == numbers
        assert set(labels) <= {0, *(number + 1 for number in numbers)}
        assert len(there) == PAIRS
    assert kinds == set(KINDS)


def test_a_training_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vlm_training, "BATCH", 2)
    monkeypatch.setattr(vlm_training, "EVERY", 2)
    vlm_training.train(tmp_path / "whole", 4, 3)
    losses = vlm_training.losses

    def stopping(*words: object) -> object:
        if (tmp_path / "again.state").exists():
            raise KeyboardInterrupt
        return losses(*words)

    monkeypatch.setattr(vlm_training, "losses", stopping)
    with pytest.raises(KeyboardInterrupt):
        vlm_training.train(tmp_path / "again", 4, 3)
    monkeypatch.setattr(vlm_training, "losses", losses)
    vlm_training.train(tmp_path / "again", 4, 3)
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "again"))
    assert one == other


def test_the_whole_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vlm_training, "BATCH", 2)
    every = tiny_vlm.ways
    few = ("pruned by divprune", "pruned by prumerge", "merged by tome, places back", "pictures of 48")
    monkeypatch.setattr(tiny_vlm, "ways", lambda dense: {name: every(dense)[name] for name in few})
    words = [str(tmp_path / "out.json"), "--work", str(tmp_path / "work")]
    amounts = ["--steps", "2", "--scenes", "4", "--test", "2", "--pictures", "32", "--epochs", "1"]
    result = CliRunner().invoke(tiny_vlm.main, [*words, *amounts], catch_exceptions=False)
    assert result.exit_code == 0
    report = json.loads((tmp_path / "out.json").read_text("utf-8"))
    learnt = [name for name in few if name != "pruned by divprune"]
    rows = [*few, *(f"{name}, taught" for name in learnt)]
    fewer = [f"{name}, renumbered" for name in rows if name.startswith("pruned")]
    assert {row["name"] for row in report["rows"]} == {"dense", *rows, *fewer}
    by_name = {row["name"]: row for row in report["rows"]}
    assert [by_name[name]["tokens"] for name in few] == [16, 16, 64, 16]
    assert all(1.1 < by_name[name]["ratio"] < 4 for name in few)
    again = CliRunner().invoke(tiny_vlm.main, [words[0], "--table"], catch_exceptions=False)
    assert result.stdout.endswith(again.stdout)
    for row in report["rows"]:
        assert row["difference"] == pytest.approx(row["score"] - by_name["dense"]["score"])
    torch.set_grad_enabled(True)
