"""`demo --files`: what the README's commands need, whole or not at all, the same every time."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from pumer_convert.cli import cli
from pumer_convert.data.formats import read_samples
from pumer_convert.demo import CHECKPOINT, RECIPE, files
from pumer_convert.demo.files import write_files
from pumer_convert.demo.words import ANSWERS
from pumer_convert.errors import InputError
from pumer_convert.system.owned import strangers


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_they_are_the_demos_and_the_same_every_time(tmp_path: Path) -> None:
    report = write_files(tmp_path / "one")
    found = content(tmp_path / "one")
    assert {name.removeprefix("checkpoint/"): found[name] for name in found if name.startswith("checkpoint/")} == {
        file.name: file.read_bytes() for file in CHECKPOINT.iterdir()
    }
    assert found["recipe.yaml"] == RECIPE.read_bytes()
    assert strangers(tmp_path / "one") == []
    write_files(tmp_path / "two")
    again = content(tmp_path / "two")
    assert {name for name in found if found[name] != again[name]} == {"report.json"}  # which says where it lies
    assert found.keys() == again.keys()
    assert report["pictures"] == len(list((tmp_path / "one" / "pictures").iterdir())) == sum(files.SCENES.values())


def test_the_questions_are_read_split_by_split(tmp_path: Path) -> None:
    write_files(tmp_path / "demo")
    data = tmp_path / "demo" / "scenes.jsonl"
    rows = [json.loads(line) for line in data.read_text("utf-8").splitlines()]
    assert {row["answer"] for row in rows} <= set(ANSWERS)
    pictures: dict[str, set[str]] = {}
    for split in files.SCENES:
        found = read_samples(data, "vqa", split=split)
        assert len(found.samples) == sum(row["split"] == split for row in rows) > 20
        assert not found.skipped
        pictures[split] = {row["image"] for row in rows if row["split"] == split}
        assert len(pictures[split]) == files.SCENES[split]
    assert len(set().union(*pictures.values())) == sum(map(len, pictures.values()))
    for name in pictures["test"]:
        with Image.open(tmp_path / "demo" / name) as picture:
            assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (96, 96))


def test_whole_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("in the middle")

    monkeypatch.setattr(files, "draw", fails)
    with pytest.raises(RuntimeError, match="in the middle"):
        write_files(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_replaced_when_told_and_as_it_was_written(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    write_files(out)
    before = content(out)
    with pytest.raises(InputError, match="exists already; use --overwrite"):
        write_files(out)
    write_files(out, overwrite=True)
    assert content(out) == before
    (out / "checkpoint" / "config.json").write_text("{}")
    (out / "mine").touch()
    with pytest.raises(InputError, match=r"as pumer-convert wrote it: checkpoint/config\.json, mine;"):
        write_files(out, overwrite=True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--files", "x", "--steps", "3"], "--files runs nothing; -o, --steps and --test are for a run"),
        (["--files", "x", "-o", "y"], "--files runs nothing"),
        (["--overwrite"], "--overwrite is for the folder of --files"),
        (["--files", "no/such/x"], "its parent folder does not exist"),
    ],
)
def test_options_that_would_not_be_heard_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(cli, ["demo", *words])
    assert isinstance(found.exception, InputError)
    assert says in str(found.exception)
    assert list(tmp_path.iterdir()) == []
