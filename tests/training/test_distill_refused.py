"""What distillation refuses or survives: teachers that do not fit, numbers that are none, files and disks that fail."""

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import lessons
import numpy as np
import pytest
import torch
from distilling import QUICK, distill, same_weights
from safetensors.torch import load_file, save_file

import pumer_convert
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.errors import InputError, VerificationError
from pumer_convert.tasks import open_task
from pumer_convert.tasks.batches import batches
from pumer_convert.training.metrics import Status
from pumer_convert.training.work import WorkFolder


def test_a_loss_that_is_no_number(tmp_path: Path, student: Path) -> None:
    settings = QUICK.replaced({"epochs": 3, "learning_rate": 1e30, "warmup": 0.0, "save_every": 1})
    with pytest.raises(VerificationError, match=r"is not a finite number at step 2; the state before it is kept in"):
        distill(student, tmp_path / "out", settings)
    state = WorkFolder(tmp_path / "out").state()
    assert state is not None
    assert state.name == "state-00000001"
    kept = load_file(state / "model.safetensors")
    assert all(bool(torch.isfinite(value).all()) for value in kept.values())
    assert not (tmp_path / "out").exists()


def other_labels(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["id2label"]["1"] = "pink"
    (folder / "config.json").write_text(json.dumps(config))


def other_vocabulary(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 98}))


def other_tokenizer(folder: Path) -> None:
    words = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(words.replace('"circle"', '"disc"'))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (other_labels, r"its labels are others \(number 1 is 'pink', not 'green'\)"),
        (other_vocabulary, "its vocabulary size is 98, not 99"),
        (other_tokenizer, "its tokenizer has another vocabulary"),
    ],
)
def test_a_teacher_that_means_something_else(tmp_path: Path, student: Path, change: Any, says: str) -> None:
    other = Path(shutil.copytree(tmp_path / "dense", tmp_path / "other"))
    for shard in other.glob("model*"):
        shard.unlink()
    save_file(pumer_convert.load(tmp_path / "dense").state_dict(), other / "model.safetensors")
    change(other)
    with pytest.raises(InputError, match=f"other: cannot teach .*dense-pumer; {says}"):
        distill(student, tmp_path / "out", teacher=other)


@pytest.mark.parametrize(
    ("family", "task", "says"), [("meter", "vqa", "family is meter"), ("vilt", "ve", "task is ve")]
)
def test_a_teacher_of_another_kind(tmp_path: Path, student: Path, family: str, task: str, says: str) -> None:
    other = lessons.dense(tmp_path / "other", family, task)
    with pytest.raises(InputError, match=says):
        distill(student, tmp_path / "out", teacher=other)
    if task == "vqa":
        with pytest.raises(InputError, match="they are reduced themselves"):
            distill(student, tmp_path / "out", QUICK.replaced({"hidden": 1.0}), teacher=student)


def test_a_teacher_of_larger_images_sees_them_at_its_size(tmp_path: Path) -> None:
    dense = lessons.dense(tmp_path / "dense")
    (tmp_path / "smaller.yaml").write_text("recipe: 1\nmodel: vilt\nimage_size: 32\n")
    pumer_convert.apply(dense, tmp_path / "smaller.yaml", tmp_path / "smaller")
    distill(tmp_path / "smaller", tmp_path / "out", cache=tmp_path / "cache")
    (cached,) = (file for file in (tmp_path / "cache").glob("*.npy") if ".known" not in file.name)
    samples, task = lessons.samples(tmp_path / "pictures"), open_task("vqa", open_checkpoint(dense).config)
    (batch,) = batches(samples, task, Preprocessor.of(dense), len(samples))
    with torch.no_grad():
        said = pumer_convert.load(dense)(**batch.inputs).logits
    torch.testing.assert_close(torch.from_numpy(np.load(cached)), said, rtol=0, atol=2e-5)
    with pytest.raises(InputError, match=r"it takes images of another size\. Say hidden: 0"):
        distill(tmp_path / "smaller", tmp_path / "no", QUICK.replaced({"hidden": 1.0}))


def test_a_teacher_that_is_gone(tmp_path: Path, student: Path) -> None:
    (tmp_path / "dense").rename(tmp_path / "moved")
    with pytest.raises(InputError, match=r"dense, which .* was made from, is not there any more; say where it is"):
        distill(student, tmp_path / "out")
    distill(student, tmp_path / "out", teacher=tmp_path / "moved")
    (student / "report.json").unlink()
    with pytest.raises(InputError, match=r"it has no report\.json that says what it was made from"):
        distill(student, tmp_path / "again")


def test_a_picture_that_is_deleted_meanwhile(tmp_path: Path, student: Path) -> None:
    settings = QUICK.replaced({"epochs": 3, "save_every": 1})
    samples = lessons.samples(tmp_path / "pictures")
    lost = samples[3].pictures[0].path
    picture = lost.read_bytes()

    def watch(status: Status) -> None:
        if status.step == 2:
            lost.unlink()

    with pytest.raises(InputError, match=rf"{lost}: there is no such picture"):
        distill(student, tmp_path / "out", settings, train=samples, watch=watch)
    assert not (tmp_path / "out").exists()
    lost.write_bytes(picture)
    distill(student, tmp_path / "out", settings, train=samples, resume=True)
    distill(student, tmp_path / "whole", settings, train=samples)
    assert same_weights(tmp_path / "out", tmp_path / "whole")


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("write: No space left on device")]
)
def test_a_full_disk(tmp_path: Path, student: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    from accelerate import Accelerator

    settings = QUICK.replaced({"epochs": 3, "save_every": 2})
    save = Accelerator.save_state

    def save_state(self: Accelerator, folder: str) -> None:
        save(self, folder)
        if folder.endswith("4"):
            raise error

    monkeypatch.setattr(Accelerator, "save_state", save_state)
    with pytest.raises(InputError, match="no space left on the device; the last good state is kept, make room and go"):
        distill(student, tmp_path / "out", settings)
    state = WorkFolder(tmp_path / "out").state()
    assert state is not None
    assert state.name == "state-00000002"
    monkeypatch.setattr(Accelerator, "save_state", save)
    distill(student, tmp_path / "out", settings, resume=True)
    distill(student, tmp_path / "whole", settings)
    assert same_weights(tmp_path / "out", tmp_path / "whole")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"batch_size": 9}, "8 samples do not fill one batch of 9; lower batch_size"),
        ({"accumulation": 3}, r"a batch of 4 does not divide into 1 process\(es\) x 3 part\(s\)"),
        ({"amp": "fp16"}, "amp fp16 needs a GPU"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, student: Path, settings: dict[str, Any], says: str) -> None:
    if torch.cuda.is_available() and "amp" in settings:
        pytest.skip("there is a GPU")
    before = set(tmp_path.iterdir()) | {tmp_path / "pictures"}
    with pytest.raises(InputError, match=says):
        distill(student, tmp_path / "out", QUICK.replaced(settings))
    assert set(tmp_path.iterdir()) == before


# The command line
