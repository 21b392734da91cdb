"""What teaches no dual encoder is refused before anything is trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lessons
import pytest
import tiny_clip
from command import run
from tower_lessons import QUICK, alone, captions, classes, dense, pictures, reduced

import pumer_convert
from pumer_convert.data.sample import Sample
from pumer_convert.errors import InputError
from pumer_convert.training.work import WorkFolder


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        (captions, {"accumulation": 2}, "accumulation is 1 where captions are compared"),
        (captions, {"batch_size": 1}, "a batch of 1 compares its picture with one caption alone"),
        (captions, {"candidates": 8}, "candidates is not for this model, which ranks nothing"),
        (captions, {"cross_modal_multiplier": 2.0}, "cross_modal_multiplier is not for this model, which has no cross"),
        (captions, {"batch_size": 9}, "8 samples do not fill one batch of 9"),
        (alone, {"contrastive": 1.0}, "the contrastive loss compares pictures with captions, but the data have no cap"),
        (classes, {"cosine": 0.0}, "there is nothing to learn from, for the data have no captions"),
        (captions, {"cosine": 0.0, "kd": 0.0}, "there is nothing to learn from, for neither kd nor contrastive has"),
    ],
)
def test_settings_that_do_not_fit(
    tmp_path: Path, kind: Callable[[Path], list[Sample]], settings: dict[str, Any], says: str
) -> None:
    student, samples = reduced(dense(tmp_path / "dense")), kind(tmp_path / "pictures")
    before = set(tmp_path.iterdir())
    with pytest.raises(InputError, match=says):
        pumer_convert.distill(student, None, samples, None, tmp_path / "out", QUICK.replaced(settings))
    assert set(tmp_path.iterdir()) == before


def test_samples_that_do_not_fit(tmp_path: Path) -> None:
    student, samples = reduced(dense(tmp_path / "dense")), captions(tmp_path / "pictures")
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"made:0: it has no caption, and others have; give all of them one, or none"):
        pumer_convert.distill(student, None, alone(tmp_path / "p")[:4] + samples, None, out, QUICK)
    with pytest.raises(InputError, match="all captions are of one image"):
        pumer_convert.distill(student, None, samples, samples[:2], out, QUICK)
    (tmp_path / "c.txt").write_text("cat\nstar\n")
    with pytest.raises(InputError, match="a file of classes is for validating by pictures of classes"):
        pumer_convert.distill(student, None, samples, samples, out, QUICK, classes=tmp_path / "c.txt")
    assert not out.exists()


def test_teachers_that_do_not_fit(tmp_path: Path) -> None:
    student, samples = reduced(dense(tmp_path / "dense")), alone(tmp_path / "pictures")
    other = tiny_clip.write(tmp_path / "other", seed=1)
    with pytest.raises(
        InputError, match=r"other: cannot teach this student; its '.*' is another, and beside other tex"
    ):
        pumer_convert.distill(student, other, samples, None, tmp_path / "out", QUICK)
    tower = tiny_clip.write(tmp_path / "tower", "CLIPVisionModelWithProjection")
    with pytest.raises(InputError, match=r"its shape of embeddings is image \(24,\), not image \(24,\), text \(24,\)"):
        pumer_convert.distill(student, tower, samples, None, tmp_path / "out", QUICK)
    assert not (tmp_path / "out").exists()
    assert not WorkFolder(tmp_path / "out").path.exists()


def test_a_model_without_embeddings_of_pictures(tmp_path: Path) -> None:
    model = tiny_clip.write(tmp_path / "model", "CLIPTextModelWithProjection")
    with pytest.raises(InputError, match="gives text_embeds; taught are towers that make embeddings of a pic"):
        pumer_convert.distill(model, model, alone(tmp_path / "pictures"), None, tmp_path / "out", QUICK)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--task", "vqa"), "two towers are not taught by 'vqa', but by retrieval, zero_shot, pictures"),
        (("--task", "retrieval"), "a folder with 0.png"),
        (("--task", "zero_shot"), "a folder with 0.png"),
        (("--data", "scenes"), "scenes: there is no such file or folder"),
    ],
)
def test_words_that_do_not_fit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    says: str,
) -> None:
    student = reduced(dense(tmp_path / "dense"))
    pictures(tmp_path / "flat")
    code, err = run(monkeypatch, capsys, "distill", student, "--data", tmp_path / "flat", *words)
    assert (code, says in err) == (2, True), err
    assert sum(line.startswith("error:") for line in err.splitlines()) == 1


def test_what_is_for_two_towers_is_refused_by_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    student = lessons.reduced(lessons.dense(tmp_path / "dense"))
    data = lessons.jsonl(tmp_path / "data.jsonl", lessons.samples(tmp_path / "pictures"))
    for words, says in (
        (("--cosine", 1, "--contrastive", 1), "answers vqa; cosine and contrastive can be for models of two towers"),
        (("--classes", data), "answers vqa; a file of classes can be for models of two towers alone"),
        (("--task", "pictures"), "answers vqa; a task is chosen for models of two towers"),
    ):
        code, err = run(monkeypatch, capsys, "distill", student, "--data", data, *words)
        assert (code, says in err) == (2, True), err
