"""The dense checkpoint that a reduced folder was made from is known by what it holds, wherever a command runs."""

import json
import os
import shutil
from pathlib import Path

import lessons
import pytest
import random_checkpoint
import torch
from safetensors.torch import load_file, save_file

from pumer_convert.benchmark.bench import bench
from pumer_convert.checkpoint import fingerprint as module
from pumer_convert.checkpoint.fingerprint import fingerprint
from pumer_convert.checkpoint.origin import origin_of
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.errors import InputError
from pumer_convert.training.job import recorded_source


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return lessons.dense(tmp_path / "here" / "dense")


@pytest.fixture
def reduced(dense: Path) -> Path:
    return lessons.reduced(dense)


def place(reduced: Path) -> Path | None:
    found = origin_of(reduced)
    assert found is not None
    return None if found.place is None else found.place.resolve()


def why(reduced: Path) -> str:
    found = origin_of(reduced)
    assert found is not None
    assert found.place is None
    return found.why


def test_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dense: Path) -> None:
    """Made with a path that is relative, asked from where another checkpoint has that name."""
    monkeypatch.chdir(dense.parent)
    made = lessons.reduced(Path("dense")).resolve()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert place(made) == dense
    lessons.dense(Path("dense"), task="ve")
    assert place(made) == dense
    shutil.rmtree(dense)
    assert "is not there any more" in why(made)


def test_another_one_in_its_place_is_not_taken(dense: Path, reduced: Path, tmp_path: Path) -> None:
    dense.rename(tmp_path / "kept")
    random_checkpoint.write(dense, "vilt", "sharded", "vqa", depth=3)
    assert "is not the checkpoint that" in why(reduced)
    with pytest.raises(InputError, match=r"is not the checkpoint that .*say where it is with --teacher"):
        recorded_source(reduced, print)
    with pytest.raises(InputError, match="is not the checkpoint that"):
        bench(reduced)
    shutil.rmtree(dense)
    dense.write_text("no checkpoint at all")
    assert "is not the checkpoint that" in why(reduced)


def test_the_pair_moved_together(dense: Path, reduced: Path, tmp_path: Path) -> None:
    dense.parent.rename(tmp_path / "there")
    moved = tmp_path / "there" / reduced.name
    assert place(moved) == tmp_path / "there" / "dense"
    # What is where the dense one was is looked at as well, and is another.
    dense.parent.mkdir()
    random_checkpoint.write(dense, "vilt", "sharded", "vqa", depth=3)
    assert place(moved) == tmp_path / "there" / "dense"


def test_the_reduced_one_moved_alone(dense: Path, reduced: Path, tmp_path: Path) -> None:
    moved = Path(shutil.move(reduced, tmp_path / "moved"))
    assert place(moved) == dense


@pytest.mark.parametrize("what", ["a weight of the head", "a small weight", "the config"])
def test_one_that_was_changed_is_not_taken(dense: Path, reduced: Path, what: str) -> None:
    if what == "the config":
        config = json.loads((dense / "config.json").read_text())
        (dense / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-3}))
    else:
        end = "classifier.3.weight" if what == "a weight of the head" else "pooler.dense.bias"
        (file,) = [f for f in dense.glob("*.safetensors") if any(n.endswith(end) for n in load_file(f))]
        weights = load_file(file)
        name = next(name for name in weights if name.endswith(end))
        weights[name].view(-1)[-1] += 1
        save_file(weights, file, {"format": "pt"})
    assert "was changed since" in why(reduced)


def test_a_config_that_was_only_written_anew_is_the_same(dense: Path, reduced: Path) -> None:
    config = json.loads((dense / "config.json").read_text())
    (dense / "config.json").write_text(json.dumps(config, indent=7, sort_keys=True))
    os.utime(dense / "config.json", (0, 0))
    assert place(reduced) == dense


def test_a_distilled_folder_keeps_it(dense: Path, reduced: Path, tmp_path: Path) -> None:
    from pumer_convert.recipe.settings import DistillSettings
    from pumer_convert.training.distill import distill

    settings = DistillSettings().replaced({"epochs": 1, "batch_size": 4})
    out = dense.parent / "deeper" / "out"
    out.parent.mkdir()
    distill(reduced, None, lessons.samples(tmp_path / "pictures"), None, out, settings, device="cpu")
    assert place(out) == dense
    dense.parent.rename(tmp_path / "there")
    assert place(tmp_path / "there" / "deeper" / "out") == tmp_path / "there" / "dense"


def test_a_report_of_before_there_were_fingerprints(dense: Path, reduced: Path) -> None:
    report = json.loads((reduced / "report.json").read_text())
    report["source"] = {"path": str(dense), "origin": "x"}
    (reduced / "report.json").write_text(json.dumps(report))
    found = origin_of(reduced)
    assert found is not None
    assert found.place == dense
    assert "no fingerprint" in found.why
    report["source"]["path"] = "dense"
    (reduced / "report.json").write_text(json.dumps(report))
    assert "not known" in why(reduced)


def test_large_tensors_are_sampled_to_their_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STRIDE", 2**14)
    file = tmp_path / "model.safetensors"
    weights = {"large": torch.zeros(50_000), "small": torch.zeros(16_000)}
    seen = set()
    for name, index in ((None, 0), ("large", 0), ("large", 4096), ("large", -1), ("small", 9_999), ("small", -1)):
        changed = {key: value.clone() for key, value in weights.items()}
        if name is not None:
            changed[name][index] = 1
        save_file(changed, file)
        seen.add(module._of_file(file))
    assert len(seen) == 6


@pytest.mark.parametrize("old", [False, True])
def test_torch_files(tmp_path: Path, old: bool) -> None:
    """In a zip, and as torch wrote them before."""
    file = random_checkpoint.write(tmp_path / "a.ckpt", "vilt", "original", "vqa", depth=1)
    content = torch.load(file)
    found = []
    for add in (0, 0, 1):
        state = content["state_dict"]
        name = next(name for name in state if name.endswith("pooler.dense.bias"))
        state[name][3] += add
        torch.save(content, file, _use_new_zipfile_serialization=not old)
        found.append(fingerprint(open_checkpoint(file)))
    assert found[0] == found[1] != found[2]
