"""`evaluate` of models of two towers: what transformers' logits say, dense against reduced, in each form of data."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_clip
import torch
import toy_dual
import transformers
from click.testing import CliRunner
from command import run
from PIL import Image

from pumer_convert import evaluate
from pumer_convert.cli import cli
from pumer_convert.convert.apply import apply
from pumer_convert.demo import CHECKPOINT
from pumer_convert.errors import InputError
from pumer_convert.models.family import FAMILIES
from pumer_convert.tasks.retrieval import recalls

RECIPE = "recipe: 1\nmodel: clip\nreduce:\n  - {at: vision.0-2, merge: {image: 0.3, by: tome}}\n"
CAPTIONS = [["the cat", "a red cat"], ["the star"], ["star 1", "a star !", "no cat"], ["red"], ["the red star"]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dense checkpoint and its reduced one."""
    home = tmp_path_factory.mktemp("clip")
    (home / "r.yaml").write_text(RECIPE)
    apply(tiny_clip.write(home / "dense"), home / "r.yaml", home / "out")
    return home / "dense", home / "out"


@pytest.fixture(scope="module")
def karpathy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Karpathy split in its own form, with pictures beside it."""
    home, random = tmp_path_factory.mktemp("flickr"), np.random.default_rng(7)
    images = []
    for i, captions in enumerate(CAPTIONS):
        file = f"{1000 + i}.jpg"
        (home / "flickr30k-images").mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (60, 80, 3), np.uint8)).save(home / "flickr30k-images" / file)
        sentences = [{"raw": text, "sentid": 10 * i + k, "tokens": text.split()} for k, text in enumerate(captions)]
        images.append({"filename": file, "imgid": i, "split": "test", "sentences": sentences})
    (home / "dataset_flickr30k.json").write_text(json.dumps({"images": images, "dataset": "flickr30k"}))
    return home / "dataset_flickr30k.json"


def theirs(folder: Path, pictures: list[Path], texts: list[str]) -> torch.Tensor:
    """transformers' logits_per_text."""
    pixels = transformers.CLIPImageProcessorPil.from_pretrained(folder)(
        [Image.open(file) for file in pictures], return_tensors="pt"
    )
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        return transformers.CLIPModel.from_pretrained(folder).eval()(**pixels, **tokens).logits_per_text


def test_recalls_are_those_of_transformers_logits(models: tuple[Path, Path], karpathy: Path) -> None:
    dense, reduced = models
    found = evaluate(reduced, karpathy, split="test", batch_size=2, device="cpu")
    pictures = [karpathy.parent / "flickr30k-images" / f"{1000 + i}.jpg" for i in range(5)]
    truth = [i for i, captions in enumerate(CAPTIONS) for _ in captions]
    logits = theirs(dense, pictures, [text for captions in CAPTIONS for text in captions])
    assert (found.task, found.metric, found.examples) == ("retrieval", "image_r@1", 8)
    assert found.comparison is not None
    assert found.comparison.dense.metrics == recalls(logits, truth)
    alone = evaluate(dense, karpathy, split="test", batch_size=5, workers=1, device="cpu")
    assert alone.score.metrics == found.comparison.dense.metrics
    assert alone.comparison is None
    low, high = found.comparison.interval
    assert low <= found.comparison.difference <= high
    assert len(found.comparison.flips) == round((1 - found.comparison.agreement) * 8)


def folders(root: Path) -> Path:
    random = np.random.default_rng(1)
    for i in range(6):
        folder = root / f"n0{i % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (60, 50, 3), np.uint8)).save(folder / f"{i}.png")
    return root


def test_zero_shot_is_what_transformers_logits_say(models: tuple[Path, Path], tmp_path: Path) -> None:
    dense, reduced = models
    data = folders(tmp_path / "pictures")
    (tmp_path / "classes.txt").write_text("n00\tcat\nn01\tred\nn02\tstar\na {}!\n")
    words = ["evaluate", reduced, "--data", data, "--task", "zero_shot", "--classes", tmp_path / "classes.txt"]
    done = CliRunner().invoke(cli, [*map(str, words), "--device", "cpu", "--json"], catch_exceptions=False)
    report = json.loads(done.stdout)
    files = sorted(data.rglob("*.png"))
    logits = theirs(dense, files, ["a cat!", "a red!", "a star!"]).T
    right = torch.tensor([int(file.parent.name[1:]) for file in files])
    expected = float((logits.argmax(-1) == right).double().mean())
    assert report["comparison"]["dense"]["metrics"] == {"accuracy": pytest.approx(expected)}
    assert (report["task"], report["metric"], report["examples"]) == ("zero_shot", "accuracy", 6)
    plain = CliRunner().invoke(cli, [*map(str, words), "--device", "cpu"], catch_exceptions=False).stdout
    assert "zero_shot, 6 examples on cpu" in plain
    by_lines = [{"image": str(file), "label": file.parent.name} for file in files]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in by_lines))
    again = evaluate(dense, tmp_path / "d.jsonl", task="zero_shot", classes=tmp_path / "classes.txt", device="cpu")
    assert again.score.metrics == {"accuracy": pytest.approx(expected)}


def test_any_model_of_two_towers_is_measured(tmp_path: Path, karpathy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "toy_dual", "toy_dual")
    found = evaluate(toy_dual.write(tmp_path / "toy"), karpathy, split="test", device="cpu")
    assert set(found.score.metrics) > {"image_r@1", "text_r@10", "recall"}


@pytest.mark.parametrize(
    ("model", "words", "message"),
    [
        ("clip", ("--task", "vqa"), "embeddings are not measured by 'vqa', but by retrieval, zero_shot"),
        ("clip", ("--classes", "c.txt"), "a file of classes is for the task zero_shot"),
        ("clip", ("--task", "zero_shot", "--classes", "none.txt"), "none.txt: not readable as UTF-8 text"),
        ("clip", ("--task", "zero_shot"), "a Karpathy split, which is for retrieval, not for zero_shot"),
        ("demo", ("--task", "retrieval"), "answers vqa; a task is chosen for models of two towers"),
    ],
)
def test_what_is_not_for_a_model_is_refused(
    models: tuple[Path, Path],
    karpathy: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: str,
    words: tuple[Any, ...],
    message: str,
) -> None:
    where = models[0] if model == "clip" else CHECKPOINT
    code, err = run(monkeypatch, capsys, "evaluate", where, "--data", karpathy, *words)
    assert (code, message in err) == (2, True), err
    assert sum(line.startswith("error:") for line in err.splitlines()) == 1


def test_one_tower_is_refused(tmp_path: Path, karpathy: Path) -> None:
    folder = tiny_clip.write(tmp_path / "alone", "CLIPVisionModelWithProjection")
    with pytest.raises(InputError, match="the model gives image_embeds and answers nothing; retrieval needs one with"):
        evaluate(folder, karpathy)
