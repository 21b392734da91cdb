"""Wrong inputs: one sentence, the right exit code, no traceback, and nothing half-written."""

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from command import run
from safetensors.torch import load_file, save_file

from pumer_convert import cli
from pumer_convert.checkpoint import write
from pumer_convert.demo import CHECKPOINT


@pytest.fixture
def ckpt(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "ckpt"))


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return tiny.recipe(tmp_path / "good.yaml", tiny.PUMER)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    def check(says: str, *args: Any, code: int = 2) -> None:
        before = sorted(str(p) for p in tmp_path.rglob("*"))
        got, words = run(monkeypatch, capsys, *args)
        assert got == code, words
        assert says in words
        assert "Traceback" not in words
        assert sum(line.startswith(("error:", "Error:")) for line in words.splitlines()) <= 1
        assert sorted(str(p) for p in tmp_path.rglob("*")) == before, "something was left behind"

    return check


def test_missing_checkpoint(refused, good: Path, tmp_path: Path) -> None:
    refused("no such file or folder", "apply", "--recipe", good, tmp_path / "nowhere")


def test_empty_folder(refused, good: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused("no weights", "apply", "--recipe", good, tmp_path / "empty")


def test_truncated_safetensors(refused, good: Path, ckpt: Path) -> None:
    file = ckpt / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    refused("truncated", "apply", "--recipe", good, ckpt)


def test_lost_shard(refused, good: Path, ckpt: Path) -> None:
    names = list(load_file(ckpt / "model.safetensors"))
    (ckpt / "model.safetensors").unlink()
    index = {"weight_map": dict.fromkeys(names, "model-00001-of-00002.safetensors")}
    (ckpt / "model.safetensors.index.json").write_text(json.dumps(index))
    refused("model-00001-of-00002.safetensors is not there", "apply", "--recipe", good, ckpt)


@pytest.mark.parametrize("what", ["missing", "unexpected", "of another shape"])
def test_wrong_keys(refused, good: Path, ckpt: Path, what: str) -> None:
    weights = load_file(ckpt / "model.safetensors")
    if what == "missing":
        del weights["vilt.pooler.dense.bias"]
    elif what == "unexpected":
        weights["vilt.more"] = torch.zeros(2)
    else:
        weights["vilt.pooler.dense.bias"] = torch.zeros(3)
    save_file(weights, ckpt / "model.safetensors")
    refused(f"1 {what}: vilt.", "apply", "--recipe", good, ckpt)


def test_nan_weights(refused, good: Path, ckpt: Path) -> None:
    weights = load_file(ckpt / "model.safetensors")
    weights["vilt.pooler.dense.bias"][0] = float("nan")
    save_file(weights, ckpt / "model.safetensors")
    refused("NaN or an infinity, in 'vilt.pooler.dense.bias'", "apply", "--recipe", good, ckpt)


class Code:
    """Unpickled, it would make a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def test_a_pickle_with_code_is_refused_by_name_and_not_run(refused, good: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": Code(tmp_path / "made")}}, tmp_path / "bad.ckpt")
    refused("mkdir", "apply", "--recipe", good, tmp_path / "bad.ckpt")


def test_an_old_pickle_with_code_is_refused_too(refused, good: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.ckpt").write_bytes(pickle.dumps({"a": Code(tmp_path / "made")}))
    refused("bad.ckpt", "apply", "--recipe", good, tmp_path / "bad.ckpt")


def test_truncated_pickle(refused, good: Path, tmp_path: Path) -> None:
    file = tiny.original_vilt(tmp_path / "vilt.ckpt")
    file.write_bytes(file.read_bytes()[:5000])
    refused("vilt.ckpt", "apply", "--recipe", good, file)


def test_git_lfs_pointer(refused, good: Path, ckpt: Path) -> None:
    (ckpt / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    refused("Git LFS pointer", "apply", "--recipe", good, ckpt)


def test_broken_config(refused, good: Path, ckpt: Path) -> None:
    (ckpt / "config.json").write_text("{")
    refused("JSON", "apply", "--recipe", good, ckpt)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("  - at: encoder.1\n    prun: {image: 0.1}\n", "Did you mean 'prune'"),
        ("  - at: encoder.9\n    prune: {image: 0.1}\n", "no site 'encoder.9'; it has encoder.0-5"),
        ("  - at: encoder.1\n    prune: {image: 1.2}\n", "1.2"),
        (
            "  - at: encoder.1\n    merge: {text: 0.1}\n  - at: encoder.0-2\n    merge: {text: 0.2}\n",
            "encoder.1",
        ),
    ],
)
def test_wrong_recipes_name_their_line(refused, tmp_path: Path, ckpt: Path, body: str, says: str) -> None:
    path = tiny.recipe(tmp_path / "r.yaml", body)
    refused(says, "apply", "--recipe", path, ckpt)
    refused("r.yaml:", "apply", "--dry-run", "--recipe", path, ckpt)


def test_recipe_for_another_family(refused, tmp_path: Path, ckpt: Path) -> None:
    (tmp_path / "r.yaml").write_text("recipe: 1\nmodel: meter\n")
    refused("is a vilt", "apply", "--recipe", tmp_path / "r.yaml", ckpt)


def test_existing_output(refused, good: Path, ckpt: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    refused("use --overwrite", "apply", "--recipe", good, "-o", tmp_path / "out", ckpt)
    refused("not written by pumer-convert", "apply", "--overwrite", "--recipe", good, "-o", tmp_path / "out", ckpt)


def test_reduced_twice(refused, monkeypatch, capsys, good: Path, ckpt: Path, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["pumer-convert", "apply", "--recipe", str(good), str(ckpt)])
    cli.main()
    capsys.readouterr()
    refused("reduced already", "apply", "--recipe", good, tmp_path / "ckpt-pumer")


def test_full_disk(refused, monkeypatch, good: Path, ckpt: Path) -> None:
    def full(*_: Any) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(write, "_write_shard", full)
    refused("no space left", "apply", "--recipe", good, ckpt)


def test_ctrl_c_in_the_middle_of_writing(refused, monkeypatch, good: Path, ckpt: Path) -> None:
    def stop(*_: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "_write_shard", stop)
    refused("stopped", "apply", "--recipe", good, ckpt, code=130)


def test_missing_tensorrt(refused, monkeypatch, tmp_path: Path, ckpt: Path) -> None:
    from pumer_convert.artifact.tensorrt_flavours import choose_flavour
    from pumer_convert.errors import MissingDependencyError

    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'pumer-convert\[rtx\]'") as error:
        choose_flavour("tensorrt-rtx", {})
    assert error.value.exit_code == 4


def test_export_of_nothing(refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused("no converted checkpoint here", "export")


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        ("1:2,4", "no profile"),
        ("8:1:1,4:8:9", "no profile"),
        ("1:1:8,1:8:9", "rise from 2"),
        ("1:1:8,4:32:41", "40 tokens"),
    ],
)
def test_profiles_that_cannot_be(refused, ckpt: Path, profile: str, says: str) -> None:
    refused(says, "export", "--trt", "--profile", profile, ckpt)


def test_misspelt_verb_and_option(refused) -> None:
    refused("No such command", "aply")
    refused("--recip", "apply", "--recip")


def test_help_does_not_import_torch() -> None:
    code = "import sys; sys.argv = ['pumer-convert', *sys.argv[1:]]\nfrom pumer_convert.cli import main\n"
    code += "try:\n    main()\nexcept SystemExit:\n    pass\nassert 'torch' not in sys.modules"
    for verb in ([], ["apply"], ["inspect"]):
        command = [sys.executable, "-c", code, *verb, "--help"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("args", [("inspect", ""), ("export", "", "-o", "x"), ("show", "ckpt", "-o", "")])
def test_an_empty_word_is_no_path(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: tuple[str, ...]
) -> None:
    code, words = run(monkeypatch, capsys, *args)
    assert (code, "it is empty; name a file or folder" in words) == (2, True)
