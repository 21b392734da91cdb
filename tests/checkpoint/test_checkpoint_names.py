"""What a checkpoint may be called: every way leads to the same folder, or to a sentence that says what to give."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from pumer_convert.checkpoint.locate import beside, own_folder, resolve
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.apply import prepare_apply
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.demo import CHECKPOINT
from pumer_convert.errors import InputError
from pumer_convert.system.json_file import read_object


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the demo's checkpoint in `good`."""
    shutil.copytree(CHECKPOINT, tmp_path / "good")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cached(cache: Path, name: str, *commits: str, main: str | None = None) -> Path:
    """A folder of the Hub's cache with the demo's checkpoint, its files links into blobs as the Hub's client makes."""
    folder = cache / f"models--{name.replace('/', '--')}"
    (folder / "blobs").mkdir(parents=True)
    for number, file in enumerate(sorted(CHECKPOINT.iterdir())):
        shutil.copy(file, folder / "blobs" / str(number))
        for commit in commits:
            (folder / "snapshots" / commit).mkdir(parents=True, exist_ok=True)
            (folder / "snapshots" / commit / file.name).symlink_to(f"../../blobs/{number}")
    if main is not None:
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(main)
    return folder


@pytest.mark.parametrize(
    "name", ["good", "good/", "./good", "good/../good", "good/config.json", "good/model.safetensors"]
)
def test_names_of_a_folder_here(here: Path, name: str) -> None:
    assert resolve(name).resolve() == here / "good"
    assert beside(resolve(name), "pumer") == here / "good-pumer"
    assert Preprocessor.of(name).longest == 40


def test_names_from_inside_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny.recipe(here / "r.yaml", tiny.PUMER)
    (here / "good" / "inner").mkdir()
    monkeypatch.chdir(here / "good")
    assert prepare_apply(".", recipe).out == here / "good-pumer"
    monkeypatch.chdir(here / "good" / "inner")
    assert prepare_apply("..", recipe).out == here / "good-pumer"


def test_a_home(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    assert resolve("~/good") == here / "good"
    with pytest.raises(InputError, match="no such file"):
        resolve("~nobody-of-that-name/good")


def test_an_index_and_a_shard_stand_for_their_folder(here: Path) -> None:
    folder, shard = here / "good", "model-00001-of-00001.safetensors"
    (folder / "model.safetensors").rename(folder / shard)
    names = open_checkpoint(folder).source.names()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(names, shard)}))
    for name in ("model.safetensors.index.json", shard):
        assert open_checkpoint(folder / name).path == folder


def test_a_file_that_the_folder_is_not_read_from_is_not_ignored(here: Path) -> None:
    shutil.copy(here / "good" / "model.safetensors", here / "good" / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"model\.safetensors, which is what is read"):
        resolve("good/pytorch_model.bin")


@pytest.mark.parametrize("name", ["model.onnx", "model.engine", "model.onnx.json"])
def test_an_exported_file_is_told_from_a_checkpoint(here: Path, name: str) -> None:
    (here / "good" / name).touch()
    with pytest.raises(InputError, match="exported"):
        open_checkpoint(here / "good" / name)


def test_folders_of_a_cache(here: Path) -> None:
    one = cached(here / "hub", "x/one", "aaa")
    assert open_checkpoint(one).path == one / "snapshots" / "aaa"
    assert resolve(one / "snapshots") == one / "snapshots" / "aaa"
    two = cached(here / "hub", "x/two", "aaa", "bbb", main="bbb")
    assert resolve(two) == two / "snapshots" / "bbb"
    assert beside(resolve(two), "pumer") == here / "two-pumer"
    with pytest.raises(InputError, match="-o"):
        own_folder(resolve(two))
    (two / "refs" / "main").unlink()
    with pytest.raises(InputError, match=r"several snapshots \(aaa, bbb\)"):
        resolve(two)


def test_a_link_into_blobs_that_are_gone(here: Path) -> None:
    one = cached(here / "hub", "x/one", "aaa")
    shutil.rmtree(one / "blobs")
    with pytest.raises(InputError, match="a link to a file that is not there"):
        open_checkpoint(one)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere", "there is no such file or folder"),
        ("a/b/c", "there is no such file or folder"),
        ("runs/last.ckpt", "there is no such file or folder"),
        ("x" * 300, "there is no such file or folder"),
        ("https://huggingface.co/x/one", "owner/name"),
        ("owner/nothing", "taken as a name on the Hugging Face Hub"),
        ("owner/nothing@v1", "taken as a name on the Hugging Face Hub"),
    ],
)
def test_what_is_nowhere(here: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(here / "empty"))
    with pytest.raises(InputError, match=says):
        resolve(name)


HUB = """
import sys
from pathlib import Path
from pumer_convert.checkpoint.locate import beside, resolve
from pumer_convert.checkpoint.read import open_checkpoint
for name in sys.argv[1:]:
    found = open_checkpoint(resolve(name))
    print(found.path.name, beside(found.path, "pumer").name)
"""


def test_names_on_the_hub_are_read_from_its_cache(here: Path) -> None:
    cached(here / "hub", "owner/some-model", "a" * 40, "b" * 40, main="a" * 40)
    (here / "hub" / "models--owner--some-model" / "refs" / "v1").write_text("b" * 40)
    environment = {**os.environ, "HF_HOME": str(here), "HF_HUB_OFFLINE": "1"}
    names = ["owner/some-model", "owner/some-model@v1"]
    done = subprocess.run([sys.executable, "-c", HUB, *names], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["a" * 40, "some-model-pumer", "b" * 40, "some-model-pumer"], done.stderr
    shutil.copytree(CHECKPOINT, here / "owner" / "some-model")
    done = subprocess.run([sys.executable, "-c", HUB, names[0]], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["some-model", "some-model-pumer"], "what is here goes first"


@pytest.mark.parametrize("name", ["with space", "Modèle-é"])
def test_a_name_beyond_ascii_where_the_locale_is_c(here: Path, name: str) -> None:
    (here / "good").rename(here / name)
    recipe = tiny.recipe(here / "r.yaml", tiny.PUMER)
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for words in (["inspect", name], ["apply", "--recipe", str(recipe), name]):
        done = subprocess.run(
            [sys.executable, "-m", "pumer_convert", *words], env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert Path(read_object(here / f"{name}-pumer" / "report.json")["source"]["path"]).samefile(here / name)
    assert name in (here / f"{name}-pumer" / "README.md").read_text("utf-8")
