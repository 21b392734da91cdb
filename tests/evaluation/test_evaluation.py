"""Evaluation: the bootstrap on values worked out by hand, dense against reduced, and the command end to end."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

import pumer_convert
from pumer_convert import cli
from pumer_convert.checkpoint.origin import origin_of
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.apply import apply
from pumer_convert.data.sample import Sample
from pumer_convert.demo import CHECKPOINT
from pumer_convert.device import open_device
from pumer_convert.errors import InputError, MissingDependencyError
from pumer_convert.evaluation import bootstrap
from pumer_convert.evaluation.bootstrap import interval
from pumer_convert.evaluation.compatibility import check_comparable
from pumer_convert.evaluation.evaluate import compare, right_answer
from pumer_convert.evaluation.predict import Predictions

# The bootstrap.


def test_values_that_are_all_the_same_have_an_interval_of_one_point() -> None:
    assert interval(np.zeros(50)) == (0.0, 0.0)
    assert interval(np.full(7, 0.3)) == (0.3, 0.3)
    assert interval([]) == (0.0, 0.0)


def test_the_interval_of_a_coin() -> None:
    low, high = interval([0, 1] * 200, seed=1)
    # The mean of 400 draws has a standard deviation of 0.025.
    assert low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.005)
    assert high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.005)
    assert interval([0, 1] * 200, seed=1) == (low, high)
    assert interval([0, 1] * 200, seed=1, level=0.5)[0] > low


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(30)
    whole = interval(values, resamples=200)
    monkeypatch.setattr(bootstrap, "BLOCK", 70)
    assert interval(values, resamples=200) == pytest.approx(whole, rel=1e-12)


def test_the_multinomial_draws_what_resampling_the_examples_draws() -> None:
    values = np.asarray([0, 0.3, 1, 1, 0.9, 0, 0.6, 1, 1, 1] * 6)
    drawn = np.random.default_rng(3).integers(60, size=(20_000, 60))
    low, high = np.quantile(values[drawn].mean(1), [0.025, 0.975])
    assert interval(values, resamples=20_000) == pytest.approx((low, high), abs=0.01)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        low, high = interval(random.random(200) < 0.7, seed=trial, resamples=500)
        covered += low <= 0.7 <= high
    assert 0.91 <= covered / 300 <= 0.98


# Comparing.


def predictions(answers: list[str], scores: list[float], seconds: float = 1.0) -> Predictions:
    earned = torch.tensor(scores, dtype=torch.float32)
    ids = [str(i) for i in range(len(answers))]
    return Predictions(earned, answers, ids, {"accuracy": float(earned.mean())}, seconds, len(answers))


def asked(count: int) -> list[Sample]:
    return [Sample(str(i), (), f"q{i}", ("red", "red", "blue"), f"f:{i}") for i in range(count)]


def test_flips_agreement_and_the_difference_by_hand() -> None:
    dense = predictions(["red", "red", "blue", "cat"], [1, 1, 0.3, 0], seconds=2)
    reduced = predictions(["red", "blue", "red", "dog"], [1, 0.3, 1, 0], seconds=1)
    found = compare(reduced, dense, asked(4))
    assert found.difference == pytest.approx(0)
    low, high = found.interval
    assert -0.6 < low < 0 < high < 0.6
    assert found.agreement == 0.25
    assert found.speedup == 2
    assert [(f.id, f.question, f.dense, f.reduced, f.right) for f in found.flips] == [
        ("1", "q1", "red", "blue", "red"),
        ("2", "q2", "blue", "red", "red"),
        ("3", "q3", "cat", "dog", "red"),
    ]
    assert (found.lost, found.gained) == (1, 1)


def test_identical_predictions_differ_by_nothing_for_sure() -> None:
    one = predictions(["red", "cat", "red"], [1, 0, 1])
    found = compare(one, one, asked(3))
    assert (found.difference, found.interval, found.agreement, found.flips) == (0, (0, 0), 1, ())
    assert found.dense.interval != (0, 0)


def test_a_paired_interval_is_narrower_than_either_score_is_sure() -> None:
    scores = [float(i % 2) for i in range(200)]
    one, other = (predictions(["x"] * 200, [*start, *scores[2:]]) for start in ((0, 0), (1, 1)))
    found = compare(one, other, asked(200))
    assert found.difference == pytest.approx(-0.01)
    assert found.interval[1] - found.interval[0] < 0.03 < found.dense.interval[1] - found.dense.interval[0]


@pytest.mark.parametrize(
    ("target", "right"),
    [(("b", "a", "a"), "a"), ((), ""), ({"x": 0.3, "y": 1.0}, "y"), ({}, ""), (False, "False"), ("neutral", "neutral")],
)
def test_the_right_answer_in_words(target: Any, right: str) -> None:
    assert right_answer(Sample("1", (), "q", target, "f:1")) == right


# End to end.


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "dense"))


@pytest.fixture
def reduced(tmp_path: Path, dense: Path) -> Path:
    apply(dense, tiny.recipe(tmp_path / "r.yaml", tiny.PUMER), tmp_path / "reduced")
    return tmp_path / "reduced"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    rows = []
    for i in range(12):
        Image.fromarray(random.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        rows.append({"id": f"q{i}", "image": f"{i}.png", "text": "what color", "answer": ("yes", "red", "no")[i % 3]})
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *args: Any, code: int = 0
) -> tuple[str, str]:
    """Standard output and error of the command line."""
    monkeypatch.setattr(sys, "argv", ["pumer-convert", "evaluate", *map(str, args), "--device", "cpu"])
    try:
        cli.main()
        got = 0
    except SystemExit as stop:
        got = int(stop.code or 0)
    out, err = capsys.readouterr()
    assert got == code, err
    assert "Traceback" not in err
    return out, err


def test_the_command_compares_with_what_was_reduced(monkeypatch, capsys, reduced: Path, dense: Path, data: Path):
    flips = data.parent / "flips.jsonl"
    out, _ = run(monkeypatch, capsys, reduced, "--data", data, "--batch-size", 5, "--flips", flips, "--json")
    found = json.loads(out)
    assert (found["task"], found["metric"], found["examples"]) == ("vqa", "vqa_accuracy", 12)
    assert found["against"] == str(dense)
    two = found["comparison"]
    assert two["difference"] == pytest.approx(found["score"]["value"] - two["dense"]["value"])
    assert two["interval"][0] <= two["difference"] <= two["interval"][1]
    assert found["score"]["examples_per_second"] > 0
    written = [json.loads(line) for line in flips.read_text().splitlines()]
    assert written == two["flips"]
    assert all(flip["dense"] != flip["reduced"] and flip["right"] in ("yes", "red", "no") for flip in written)
    assert two["agreement"] == pytest.approx(1 - len(written) / 12)


def test_the_command_says_it_in_words(monkeypatch, capsys, reduced: Path, dense: Path, data: Path) -> None:
    out, _ = run(monkeypatch, capsys, reduced, "--against", dense, "--data", data, "--limit", 4)
    assert "vqa, 4 examples on cpu" in out
    assert "difference" in out
    assert "95% interval" in out
    assert "agreement" in out


def test_a_checkpoint_against_itself_is_the_same(dense: Path, data: Path) -> None:
    found = pumer_convert.evaluate(dense, data, against=dense, device="cpu")
    assert found.comparison is not None
    assert (found.comparison.difference, found.comparison.interval) == (0, (0, 0))
    assert (found.comparison.agreement, found.comparison.flips) == (1, ())


def test_one_checkpoint_alone(monkeypatch, capsys, reduced: Path, dense: Path, data: Path) -> None:
    alone = pumer_convert.evaluate(dense, data, device="cpu")
    assert alone.comparison is None
    assert alone.score.interval[0] <= alone.score.value <= alone.score.interval[1]
    shutil.rmtree(dense)
    out, _ = run(monkeypatch, capsys, reduced, "--data", data)
    assert "is not there any more" in out


def test_the_public_name_stays_a_function(dense: Path, data: Path) -> None:
    for _ in range(2):
        assert callable(pumer_convert.evaluate)
        pumer_convert.evaluate(dense, data, device="cpu", limit=1)


def test_wrong_input_is_one_sentence(monkeypatch, capsys, reduced: Path, dense: Path, data: Path, tmp_path: Path):
    def refused(says: str, *args: Any, code: int = 2) -> None:
        before = sorted(tmp_path.rglob("*"))
        err = run(monkeypatch, capsys, *args, code=code)[1]
        assert says in err
        assert sum(line.lower().startswith("error") for line in err.splitlines()) == 1
        assert sorted(tmp_path.rglob("*")) == before

    refused("no such file", reduced, "--data", tmp_path / "none")
    refused("no such file", reduced, "--data", data, "--against", tmp_path / "none")
    refused("--against", dense, "--data", data, "--flips", tmp_path / "flips")
    (tmp_path / "there").write_text("")
    refused("exists already", reduced, "--data", data, "--flips", tmp_path / "there")
    assert (tmp_path / "there").read_text() == ""
    bare = tmp_path / "bare.jsonl"
    bare.write_text(json.dumps({"image": "0.png", "text": "what", "answers": {}}) + "\n")
    refused("no answers", dense, "--data", bare)
    data.write_text(data.read_text() + '{"image": "none.png", "text": "what", "answer": "red"}\n')
    refused("data.jsonl:13", reduced, "--data", data)
    out, _ = run(monkeypatch, capsys, reduced, "--data", data, "--on-error", "skip", "--json")
    assert json.loads(out)["examples"] == 12
    assert "data.jsonl:13" in json.loads(out)["skipped"][0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"id2label": {"0": "yes", "1": "perhaps"}}, "its label 1 is 'perhaps', not 'no'"),
        ({"id2label": {"0": "yes"}}, "number of labels is 1, not 2"),
        ({"image_size": 64}, "image size is 64x64, not 96x96"),
        ({"vocab_size": 7}, "vocabulary size is 7, not"),
    ],
)
def test_two_that_cannot_be_compared(change: dict[str, Any], says: str) -> None:
    one = open_checkpoint(CHECKPOINT)
    one = replace(one, config={**one.config, "id2label": {"0": "yes", "1": "no"}})
    with pytest.raises(InputError, match=says):
        check_comparable(one, replace(one, config={**one.config, **change}))
    check_comparable(one, replace(one, config={**one.config, "image_size": [96, 96]}))
    with pytest.raises(InputError, match="task is retrieval, not vqa"):
        check_comparable(one, replace(one, task="retrieval"))
    with pytest.raises(InputError, match="model is meter, not vilt"):
        check_comparable(one, replace(one, family="meter"))


def test_labels_without_names_fit_any(dense: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(dense, tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    config["id2label"] = {key: f"LABEL_{key}" for key in config["id2label"]}
    (other / "config.json").write_text(json.dumps(config))
    check_comparable(open_checkpoint(dense), open_checkpoint(other))


def test_a_report_that_names_no_source(tmp_path: Path) -> None:
    assert origin_of(tmp_path) is None
    for text in ("", "[]", "{}", '{"source": 3}', '{"source": {"path": 3}}'):
        (tmp_path / "report.json").write_text(text)
        assert origin_of(tmp_path) is None


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert open_device("auto") == open_device("cpu") == torch.device("cpu")
    for name in ("gpu", "cuda:", "cuda:x", "mps"):
        with pytest.raises(InputError, match="cannot be"):
            open_device(name)
    with pytest.raises(MissingDependencyError, match="cuda:1 is not there"):
        open_device("cuda:1")
