"""A folder that is changed in one step."""

import os
from pathlib import Path

import pytest

from pumer_convert.errors import InputError
from pumer_convert.system.output import changed_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    (made / "inner").mkdir(parents=True)
    (made / "a").write_text("a")
    (made / "inner" / "b").write_text("b")
    (tmp_path / "blob").write_text("blob")
    (made / "c").symlink_to("../blob")
    return made


def change(new: Path) -> None:
    (new / "a").unlink()
    (new / "a").write_text("new")


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_all_that_is_not_changed_is_what_it_was(folder: Path) -> None:
    before, number, mode = names(folder), (folder / "inner" / "b").stat().st_ino, folder.stat().st_mode
    with changed_folder(folder) as new:
        change(new)
        assert (folder / "a").read_text() == "a"
    assert (folder / "a").read_text() == "new"
    assert names(folder) == before
    assert ((folder / "inner" / "b").stat().st_ino, folder.stat().st_mode) == (number, mode)
    assert (folder / "c").readlink() == Path("../blob")
    assert (folder / "c").read_text() == "blob"
    assert names(folder.parent) == sorted(["blob", "folder", *(f"folder/{name}" for name in before)])


def test_what_fails_changes_nothing(folder: Path) -> None:
    def fails() -> None:
        with changed_folder(folder) as new:
            change(new)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert (folder / "a").read_text() == "a"
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def test_what_somebody_else_writes_meanwhile_is_not_lost(folder: Path) -> None:
    def meanwhile() -> None:
        with changed_folder(folder) as new:
            change(new)
            (folder / "d").write_text("d")

    with pytest.raises(InputError, match="was changed while this was written; nothing was, try again"):
        meanwhile()
    assert (folder / "d").read_text() == "d"
    assert (folder / "a").read_text() == "a"


def test_a_link_to_it_stays_one(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    with changed_folder(link) as new:
        change(new)
    assert link.is_symlink()
    assert (folder / "a").read_text() == "new"


@pytest.mark.parametrize("place", ["", ".."])
def test_one_that_is_not_to_be_written_to_is_refused(folder: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shut = (folder / place).resolve()
    # Of root everything is to be written to.
    monkeypatch.setattr(os, "access", lambda path, how: Path(path) != shut)
    with pytest.raises(InputError, match=f"is exchanged as a whole, and {shut} is not to be written to"):
        changed_folder(folder).__enter__()
