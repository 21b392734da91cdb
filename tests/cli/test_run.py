"""`run` with a model of two towers, which chooses from labels and captions; each option for the models it is for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_clip
import tiny_dinov2
from click.testing import CliRunner
from command import run
from PIL import Image

from pumer_convert import Pipeline
from pumer_convert.cli import cli
from pumer_convert.demo import CHECKPOINT


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip.write(tmp_path_factory.mktemp("clip") / "dense")


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("picture") / "p.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (70, 100, 3), np.uint8)).save(file)
    return file


def printed(*words: Any) -> str:
    found = CliRunner().invoke(cli, ["run", *map(str, words)], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.stdout


def test_labels_are_put_into_the_template(clip: Path, picture: Path) -> None:
    choices = ("--label", "cat", "--label", "red star")
    found = printed(clip, "--image", picture, *choices, "--template", "a {}!")
    answer = Pipeline(clip).classify(picture, ["cat", "red star"], "a {}!")
    assert answer.cosines is not None
    lines = zip(answer.ranking, answer.cosines, strict=True)
    assert found.splitlines() == [f"{score:7.2%}  {cosine:7.4f}  {label}" for (label, score), cosine in lines]
    report = json.loads(printed(clip, "--image", picture, *choices, "--template", "a {}!", "--top", 1, "--json"))
    assert report == {
        "text": answer.text,
        "score": answer.score,
        "ranking": [list(answer.ranking[0])],
        "cosines": [answer.cosines[0]],
    }


def test_captions_are_labels_without_a_template(clip: Path, picture: Path) -> None:
    of_texts, of_labels = (
        printed(clip, "--image", picture, option, "a cat", option, "the red star") for option in ("--text", "--label")
    )
    assert of_texts == of_labels
    assert printed(clip, "--image", picture, "--text", "a cat").split()[0] == "100.00%"


def test_a_question_is_answered_as_before(tmp_path: Path) -> None:
    Image.new("RGB", (96, 96)).save(tmp_path / "p.png")
    report = json.loads(printed(CHECKPOINT, "--image", tmp_path / "p.png", "--text", "what color ?", "--json"))
    assert report.keys() == {"text", "score", "ranking"}


@pytest.mark.parametrize("tower", ["Dinov2Model", "CLIPVisionModel"])
def test_a_tower_of_pictures_alone_gives_embeddings(tmp_path: Path, picture: Path, tower: str) -> None:
    writer = tiny_clip if tower.startswith("CLIP") else tiny_dinov2
    folder = writer.write(tmp_path / "dense", tower)
    expected = Pipeline(folder).embed_images([picture, picture])
    report = json.loads(printed(folder, "--image", picture, "--image", picture, "--json"))
    assert [row["image"] for row in report["embeddings"]] == [str(picture)] * 2
    assert np.array_equal(np.float32([row["embedding"] for row in report["embeddings"]]), expected)
    (line,) = printed(folder, "--image", picture).splitlines()
    assert line.startswith(f"{picture}: 64 numbers, {expected[0, 0]:.4f} {expected[0, 1]:.4f} ")


@pytest.mark.parametrize(
    ("model", "words", "message"),
    [
        ("clip", (), "say --text, or for a model of two towers --label: one of them, and not both"),
        ("clip", ("--text", "a", "--label", "b"), "one of them, and not both"),
        ("clip", ("--text", "a", "--template", "a {}"), "--template is for --label; say --label as well"),
        ("clip", ("--label", "a", "--template", "a"), "the template 'a' has no {}, where the label goes"),
        ("clip", ("--label", "a", "--label", "a"), "the label 'a' is given twice"),
        ("clip", ("--label", "a", "--image", "q.png"), "chooses for one picture; say --image once, not 2 times"),
        ("demo", (), "say --text, or for a model of two towers --label"),
        ("demo", ("--label", "a"), "answers one question by its own labels; say --text once, not --label"),
        ("demo", ("--text", "a", "--text", "b"), "say --text once, not 2 times --text"),
    ],
)
def test_what_is_not_for_the_model_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    clip: Path,
    picture: Path,
    model: str,
    words: tuple[str, ...],
    message: str,
) -> None:
    where = clip if model == "clip" else CHECKPOINT
    code, err = run(monkeypatch, capsys, "run", where, "--image", picture, *words)
    assert code == 2
    assert err.startswith("error: ")
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_text_that_is_cut_is_told(clip: Path, picture: Path) -> None:
    words = ["run", clip, "--image", picture, "--label", "cat", "--label", "cat " * 100]
    found = CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False)
    assert found.stderr == "note: 1 of 2 texts were longer than 77 tokens and cut.\n"


def test_show_asks_a_tower_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], clip: Path, picture: Path, tmp_path: Path
) -> None:
    words = ("show", clip, "--image", picture, "--text", "a", "-o", tmp_path / "left.png")
    code, err = run(monkeypatch, capsys, *words)
    assert (code, "reads its pictures without a text; leave it out" in err) == (2, True)
    assert not (tmp_path / "left.png").exists()
