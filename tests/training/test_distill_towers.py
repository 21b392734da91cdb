"""Distillation of dual encoders: their tower of pictures is taught by the dense one, with captions or without."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_dinov2
import torch
import torch.nn.functional as F
import toy_dual
from click.testing import CliRunner
from distilling import losses, same_weights
from safetensors.torch import load_file
from tower_lessons import QUICK, WRITE, alone, captions, classes, cosine, dense, embeddings, pictures, reduced

import pumer_convert
from pumer_convert.cli import cli
from pumer_convert.data.sample import Sample
from pumer_convert.models.family import FAMILIES
from pumer_convert.recipe.settings import Augment, DistillSettings
from pumer_convert.training import teacher as teacher_module


@pytest.mark.parametrize("kind", [captions, alone, classes])
@pytest.mark.parametrize("family", WRITE)
def test_a_student_comes_nearer_to_its_teacher(
    tmp_path: Path, family: str, kind: Callable[[Path], list[Sample]]
) -> None:
    teacher = dense(tmp_path / "dense", family)
    student, samples = reduced(teacher, family), kind(tmp_path / "pictures")
    out, told = tmp_path / "out", []
    settings = QUICK.replaced({"epochs": 10, "keep": "last"})
    report = pumer_convert.distill(student, None, samples, samples, out, settings, progress=told.append)["distill"]
    found = losses(out)
    assert np.mean(found[-4:]) < 0.5 * np.mean(found[:4])
    assert 1 - cosine(out, teacher, samples) < 0.5 * (1 - cosine(student, teacher, samples))
    assert report["last"]["cosine"] > 0.9
    assert (report["last"]["kd_loss"] > 0) == (kind is captions)
    # Nothing else has moved: a text has the embedding that it had.
    before, after = load_file(student / "model.safetensors"), load_file(out / "model.safetensors")
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"vision_model", *(["visual_projection"] if family == "clip" else [])}
    (trained,) = (note for note in report["notes"] if note.startswith("trained: "))
    assert "; logit_scale, text_model, text_projection stay as they are" in trained or family == "siglip"
    assert trained in told
    assert [note for note in report["notes"] if "taught by pictures alone, for the data have no captions" in note] == (
        [] if kind is captions else [note for note in report["notes"] if note != trained]
    )
    metric = {captions: "image_r@1", alone: "cosine", classes: "accuracy"}[kind]
    assert {next(iter(record["validation"])) for record in report["validations"]} == {metric}
    assert (out / "curve.png").exists()


def test_embeddings_are_kept_for_other_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = dense(tmp_path / "dense")
    student, samples = reduced(teacher), captions(tmp_path / "pictures")
    settings = QUICK.replaced({"epochs": 2})
    pumer_convert.distill(student, None, samples, None, tmp_path / "first", settings, cache=tmp_path / "cache")
    (kept,) = (np.load(file) for file in (tmp_path / "cache").glob("*.npy") if ".known" not in file.name)
    assert kept.shape == (8, 48)
    np.testing.assert_allclose(kept[:, :24], embeddings(teacher, samples).numpy(), atol=1e-5)

    def build(*_: Any) -> None:
        raise AssertionError("the teacher is loaded though every answer of its is known")

    with monkeypatch.context() as patch:
        patch.setattr(teacher_module, "build", build)
        pumer_convert.distill(student, None, samples, None, tmp_path / "second", settings, cache=tmp_path / "cache")
    assert same_weights(tmp_path / "first", tmp_path / "second")
    # Pictures alone are other answers, and changed pictures are asked about each time.
    known = len([*(tmp_path / "cache").iterdir()])
    pumer_convert.distill(
        student, None, samples, None, tmp_path / "third", settings.replaced({"kd": 0.0}), cache=tmp_path / "cache"
    )
    assert len([*(tmp_path / "cache").iterdir()]) == 2 * known
    changed = settings.replaced({"augment": Augment()})
    pumer_convert.distill(student, None, samples, None, tmp_path / "fourth", changed, cache=tmp_path / "cache")
    assert len([*(tmp_path / "cache").iterdir()]) == 2 * known


def test_a_teacher_with_a_cache_teaches_as_one_without(tmp_path: Path) -> None:
    teacher = dense(tmp_path / "dense", "siglip")
    student, samples = reduced(teacher, "siglip"), captions(tmp_path / "pictures")
    # Where hidden states count, nothing is kept; a weight of nearly nothing asks for them.
    for name, hidden in (("kept", 0.0), ("asked", 1e-12)):
        settings = QUICK.replaced({"epochs": 3, "hidden": hidden, "contrastive": 0.5})
        pumer_convert.distill(student, None, samples, None, tmp_path / name, settings)
    assert losses(tmp_path / "kept") == pytest.approx(losses(tmp_path / "asked"), rel=1e-5)


class StopError(Exception):
    """Something that stops a training."""


@pytest.mark.parametrize("kind", [captions, alone])
def test_a_stopped_training_goes_on(tmp_path: Path, kind: Callable[[Path], list[Sample]]) -> None:
    """With an average, a ramp, hidden states, clipping, augmentation and bf16, all at once."""
    student, samples = reduced(dense(tmp_path / "dense")), kind(tmp_path / "pictures")
    more = {"ema": 0.9, "ramp": 0.5, "hidden": 0.5, "clip": 1.0, "augment": Augment(), "amp": "bf16", "save_every": 2}
    settings = QUICK.replaced({"epochs": 3, **more})

    def watch(status: Any) -> None:
        if status.step == 3:
            raise StopError

    with pytest.raises(StopError):
        pumer_convert.distill(student, None, samples, samples, tmp_path / "out", settings, watch=watch)
    pumer_convert.distill(student, None, samples, samples, tmp_path / "out", settings, resume=True, workers=1)
    report = pumer_convert.distill(student, None, samples, samples, tmp_path / "whole", settings)
    assert same_weights(tmp_path / "out", tmp_path / "whole")
    assert losses(tmp_path / "out") == losses(tmp_path / "whole")
    assert report["distill"]["last"]["hidden_loss"] > 0


def test_parts_of_a_batch_of_pictures_add_up_to_it(tmp_path: Path) -> None:
    student, samples = reduced(dense(tmp_path / "dense")), alone(tmp_path / "pictures")
    for name, parts in (("whole", 1), ("parts", 2)):
        settings = QUICK.replaced({"epochs": 2, "accumulation": parts})
        pumer_convert.distill(student, None, samples, None, tmp_path / name, settings)
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), abs=1e-4)


@pytest.mark.parametrize("family", ["clip", "siglip", "dinov2"])
def test_one_tower_is_taught_by_pictures_alone(tmp_path: Path, family: str) -> None:
    if family == "dinov2":
        teacher = tiny_dinov2.write(tmp_path / "dense")
    else:
        named = {"clip": "CLIPVisionModelWithProjection", "siglip": "SiglipVisionModel"}[family]
        teacher = dense(tmp_path / "dense", family, named)
    student, samples = reduced(teacher, family), captions(tmp_path / "pictures")
    report = pumer_convert.distill(student, None, samples, samples, tmp_path / "out", QUICK)["distill"]
    assert "for the model has no tower of texts" in report["notes"][0]
    assert "text" not in report["notes"][1]
    assert [*report["validations"][0]["validation"]] == ["cosine"]


def test_any_model_of_two_towers_is_taught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "toy_dual", "toy_dual")
    teacher = toy_dual.write(tmp_path / "dense")
    recipe = tmp_path / "r.yaml"
    recipe.write_text("recipe: 1\nmodel: toy_dual\nreduce:\n  - {at: vision.0-2, merge: {image: 0.5}}\n")
    pumer_convert.apply(teacher, recipe, tmp_path / "student")
    samples, settings = captions(tmp_path / "pictures"), DistillSettings(epochs=1, batch_size=4)
    report = pumer_convert.distill(tmp_path / "student", None, samples, samples, tmp_path / "out", settings)["distill"]
    count = sum(p.numel() for p in pumer_convert.load(teacher).image.parameters())
    assert "for nothing tells how the model scores a picture beside a text" in report["notes"][0]
    assert report["notes"][1] == f"trained: image ({count:,} parameters); text stays as it is."
    assert report["rates"]["body"] == 1e-5
    assert next(iter(report["validations"][0]["validation"])) == "image_r@1"


def test_a_student_of_smaller_pictures_learns_from_the_whole_ones(tmp_path: Path) -> None:
    teacher = dense(tmp_path / "dense")
    (tmp_path / "r.yaml").write_text("recipe: 1\nmodel: clip\nimage_size: 32\n")
    pumer_convert.apply(teacher, tmp_path / "r.yaml", tmp_path / "small")
    samples = alone(tmp_path / "pictures")
    small, settings = tmp_path / "small", QUICK.replaced({"epochs": 4})
    report = pumer_convert.distill(small, None, samples, samples, tmp_path / "out", settings)["distill"]
    found = F.cosine_similarity(embeddings(tmp_path / "out", samples), embeddings(teacher, samples)).mean()
    best = max(record["validation"]["cosine"] for record in report["validations"])
    assert float(found) == pytest.approx(best, abs=1e-4)


# Several processes


def test_two_processes_equal_one(tmp_path: Path) -> None:
    student, samples = reduced(dense(tmp_path / "dense")), captions(tmp_path / "pictures")
    rows = [{"id": s.id, "image": s.pictures[0].name, "text": s.text} for s in samples]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train, _ = pumer_convert.training_samples(data, "embeddings")
    settings = QUICK.replaced({"epochs": 4, "contrastive": 1.0})
    pumer_convert.distill(student, None, train, train, tmp_path / "one", settings)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port"]
    command += [str(free_port()), "-m", "pumer_convert", "distill", str(student), "--data", str(data)]
    command += ["--validation", str(data), "-o", str(tmp_path / "two"), "--device", "cpu", "--json", "--contrastive"]
    command += ["1", "--epochs", "4", "--batch-size", "4", "--learning-rate", "1e-3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)["distill"]
    assert report["processes"] == 2
    one = json.loads((tmp_path / "one" / "report.json").read_text())["distill"]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)
    assert report["last"] == pytest.approx(one["last"], abs=1e-3)
    assert [r["validation"] for r in report["validations"]] == [r["validation"] for r in one["validations"]]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


# The command line


def said(*words: Any) -> str:
    """Standard error of a command that goes well."""
    done = CliRunner().invoke(cli, [*map(str, words), "--device", "cpu"], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stderr


def test_the_verbs_take_captions_classes_and_pictures(tmp_path: Path) -> None:
    teacher = dense(tmp_path / "dense")
    student = reduced(teacher, more="distill: {epochs: 1, batch_size: 4}\n")
    files = [picture.path for picture in pictures(tmp_path / "flat")]
    for i, file in enumerate(files):
        folder = tmp_path / "tree" / ("cat", "star")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file.name).write_bytes(file.read_bytes())
    (tmp_path / "alone.jsonl").write_text("".join(json.dumps({"image": f"flat/{f.name}"}) + "\n" for f in files))
    (tmp_path / "classes.txt").write_text("cat\tthe cat\nstar\na {}!\n")
    alone_says, tree = "taught by pictures alone, for the data have no captions", tmp_path / "tree"
    for number, (data, validation, more, metric) in enumerate(
        (
            ("flat", "flat", (), "cosine"),
            ("alone.jsonl", "flat", (), "cosine"),
            ("tree", "alone.jsonl", (), "cosine"),
            ("flat", "tree", (), "accuracy"),
            ("flat", "tree", ("--classes", tmp_path / "classes.txt"), "accuracy"),
            ("tree", "tree", ("--task", "pictures"), "cosine"),
        )
    ):
        told = ("--validation", tmp_path / validation, "-o", tmp_path / str(number), *more)
        err = said("distill", student, "--data", tmp_path / data, *told)
        assert alone_says in err
        assert f"validation {metric}" in err, (data, validation, more)
    recipe = teacher.with_suffix(".yaml")
    assert alone_says in said("apply", "--distill", "--recipe", recipe, teacher, "-o", tmp_path / "e", "--data", tree)
    report = json.loads((tmp_path / "e" / "report.json").read_text())
    assert report["source"]["path"] == str(teacher)
    assert report["distill"]["metric"] == "cosine"
