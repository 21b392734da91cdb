"""The ablation script: rows that cost the same, and a run from the recipe to the table."""

import json
from pathlib import Path

import ablations
import accuracy
import equal_cost
import pytest

from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.load import spec_of
from pumer_convert.demo import CHECKPOINT
from pumer_convert.models.meter import FAMILY
from pumer_convert.models.spec import ModelSpec
from pumer_convert.tasks import TASKS, open_task

METER = {
    "architectures": ["MeterForQuestionAnswering"],
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "num_fusion_layers": 6,
    "fusion_order": "sequential",
    "image_size": 384,
    "patch_size": 16,
    "id2label": {"0": ""},
    "vision": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 11, "num_attention_heads": 12},
    "text": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "max_position_embeddings": 514,
    },
}


def rows(family: str, spec: ModelSpec, share: float) -> tuple[list[ablations.Variant], list[int]]:
    sites = spec.guided
    full = ablations.Variant("full", sites[1 : 1 + len(sites) // 2], share, share, share)
    target = ablations.macs(ablations.plan_of(full, family, spec, 9))
    found = ablations.variants(full, sites, target, family, spec, 9)
    assert found[0] == full, "the shares that the others are fitted to stay as they are"
    return found, [ablations.macs(ablations.plan_of(row, family, spec, 9)) for row in found]


@pytest.mark.parametrize("share", [0.1, 0.2])
@pytest.mark.parametrize("family", ["vilt", "meter"])
def test_all_rows_cost_the_same(family: str, share: float) -> None:
    spec = spec_of(open_checkpoint(CHECKPOINT)) if family == "vilt" else FAMILY.spec(METER)
    found, costs = rows(family, spec, share)
    assert all(abs(cost / costs[0] - 1) < 0.02 for cost in costs), costs
    names = [row.name for row in found]
    assert len(set(names)) == len(names)
    assert any(name.startswith("one late layer") for name in names)
    assert [row.by for row in found[:3]] == ["relevance", "cls_attention", "random"]
    assert (found[3].merge, found[3].text, found[4].prune) == (0, 0, 0)


def test_a_row_without_shares_is_left_out() -> None:
    spec = spec_of(open_checkpoint(CHECKPOINT))
    full = ablations.Variant("full", spec.sites[1:4], 0.3, 0.0, 0.0)
    target = ablations.macs(ablations.plan_of(full, "vilt", spec, 9))
    found = ablations.variants(full, (), target, "vilt", spec, 9)
    assert all(row.prune for row in found)


@pytest.mark.parametrize("name", TASKS)
def test_the_worlds_samples_are_those_of_the_task(name: str) -> None:
    labels = {
        "vqa": ("yes", "no", "red"),
        "nlvr2": ("False", "True"),
        "ve": ("contradiction", "neutral", "entailment"),
        "retrieval": (),
    }
    task = open_task(name, {"id2label": {str(i): label for i, label in enumerate(labels[name])}})
    found = ablations.lessons(name, "test", 12)
    assert all(len(row.lines) == task.lines for row in task.rows(found))
    task.target(task.rows(found)[:])
    assert found == ablations.lessons(name, "test", 12)
    assert found != ablations.lessons(name, "train", 12)


def test_a_run_prints_the_table_and_is_not_done_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--work", str(tmp_path), "--steps", "1", "--seeds", "1", "--test", "6", "--batch-size", "2"]
    ablations.main([*small, "--only", "without any"])
    table = capsys.readouterr().out
    assert "full PuMer (cascade)" in table
    assert "without any training" in table
    written = (tmp_path / "full-PuMer--cascade--0" / "model.safetensors").stat().st_mtime_ns
    ablations.main([*small, "--only", "nothing else", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in report["rows"]] == ["full PuMer (cascade)"]
    assert report["rows"][0]["image_tokens"] < report["image_tokens"]
    assert (tmp_path / "full-PuMer--cascade--0" / "model.safetensors").stat().st_mtime_ns == written


def test_the_table_of_accuracy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    accuracy.main(["--work", str(tmp_path), "--steps", "1", "--seeds", "1", "--test", "6", "--batch-size", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 + len(accuracy.SETTINGS)
    report = json.loads((tmp_path / "accuracy.json").read_text())
    for line, row in zip(lines[4:], report["rows"], strict=True):
        assert f"145 -> {row['image_tokens']}" in line
        assert f"{report['dense_macs'] / row['macs']:.2f}x" in line
        assert row["seconds"] > 0


def test_the_table_at_equal_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--work", str(tmp_path), "--steps", "1", "--seeds", "1", "--test", "6", "--batch-size", "2"]
    equal_cost.main([*words, "--only", "pitome", "images"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[4:]] == [
        "| pitome early, PuMer late",
        "| images of 72",
        "| images of 64",
    ]
    report = json.loads((tmp_path / "equal_cost.json").read_text())
    early, larger, smaller = (report["dense_macs"] / row["macs"] for row in report["rows"])
    assert early == pytest.approx(equal_cost.RATIO, rel=0.01)
    assert larger < equal_cost.RATIO < smaller
    assert [row["image_tokens"] for row in report["rows"]] == [9, 1 + 9 * 9, 1 + 8 * 8]
