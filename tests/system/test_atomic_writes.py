"""Killed at any line of the writer, what was there is old or new, and whole; the next writer leaves nothing behind."""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from pumer_convert.errors import InputError
from pumer_convert.system import output, partial
from pumer_convert.system.output import check_files, check_out, output_files, output_folder
from pumer_convert.system.owned import digest, listed, strangers, unproven, write_list, write_report
from pumer_convert.system.signals import Terminated, deferred, stoppable
from pumer_convert.system.whole import check_whole

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # it is forked
CODE = {module.__file__ for module in (output, partial)}
PARTS = (".data", ".json")
Write = Callable[[Path, str], None]


def write_folder(path: Path, text: str) -> None:
    with output_folder(path, overwrite=True) as folder:
        (folder / "deep").mkdir()
        for name in ("a", "deep/b"):
            (folder / name).write_text(text)
        write_report(folder, {"pumer_convert": "0"})


def write_set(path: Path, text: str) -> None:
    with output_files(path, overwrite=True, parts=PARTS) as target:
        target.write_text(text)
        if text != "small":
            target.with_name(path.name + ".data").write_text(text)
        hashes = {file.name: digest(file) for file in target.parent.iterdir()}
        write_list(target.with_name(path.name + ".json"), {"format": 1, "onnx": {}}, hashes)


def write_one(path: Path, text: str) -> None:
    with output_files(path, overwrite=True) as target:
        target.write_text(text)


def folder_says(path: Path) -> str | None:
    if not path.exists():
        return None
    assert strangers(path) == []
    texts = {(path / name).read_text() for name in ("a", "deep/b")}
    assert len(texts) == 1
    return texts.pop()


def set_says(path: Path) -> str | None:
    names = [path.name, *(path.name + part for part in PARTS)]
    there = [name for name in names if path.with_name(name).exists()]
    if not there:
        return None
    text = path.read_text()
    assert unproven(path.parent, f"{path.name}.json", there) == []
    assert set(listed(path.with_name(f"{path.name}.json")) or {}) == set(there)
    return text


def one_says(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


KINDS: dict[str, tuple[Write, Callable[[Path], str | None], Callable[[Path], None]]] = {
    "folder": (write_folder, folder_says, lambda path: check_out(path, True)),
    "set": (write_set, set_says, lambda path: check_files(path, True, parts=PARTS)),
    "one": (write_one, one_says, lambda path: check_files(path, True)),
}


def killed_at(line: int, number: int, write: Write, path: Path, text: str) -> int:
    """How a process ends that gets a signal at that line of our code, counted as it runs: 0 when it ends before."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code, count = 70, 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        if frame.f_code.co_filename not in CODE:
            return None
        if event == "line":
            count += 1
            if count == line:
                os.kill(os.getpid(), number)
        return trace

    try:
        with stoppable():
            sys.settrace(trace)
            write(path, text)
        code = 0
    except Terminated:
        code = 143
    except BaseException:
        traceback.print_exc()
    finally:
        sys.settrace(None)
        os._exit(code)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("before", [None, "old"])
@pytest.mark.parametrize(("kind", "exchange"), [("folder", True), ("folder", False), ("set", True), ("one", True)])
def test_killed_at_every_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, exchange: bool, before: str | None, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # takes most of the time, and a killed process loses nothing
    if not exchange:
        monkeypatch.setattr(partial, "_exchange", lambda one, other: False)
    write, says, recover = KINDS[kind]
    seen, ended = set(), -1
    for line in range(1, 10_000, 1 if number == signal.SIGKILL else 3):
        home = tmp_path / str(line)
        home.mkdir()
        path = home / "made"
        if before is not None:
            write(path, before)
        new = "small" if kind == "set" else "new"
        ended = killed_at(line, number, write, path, new)
        assert ended in (0, 143, -9)
        try:
            check_whole(path)
        except InputError:
            assert kind == "set"  # a reader is told
            assert number == signal.SIGKILL
        left = [file.name for file in home.iterdir() if "partial" in file.name]
        if number == signal.SIGTERM and ended == 143:
            assert says(path) in (before, new)
        recover(path)
        assert says(path) in (before, new), line
        seen.add(says(path))
        assert [file.name for file in home.iterdir() if "partial" in file.name] == []
        write(path, "again")
        assert says(path) == "again"
        if ended == 0 and not left:
            break
    assert ended == 0
    assert seen == {before, new}


def test_a_writer_that_lives_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "made"
    with output_folder(path, overwrite=False) as one:
        (one / "a").write_text("one")
        with output_folder(path, overwrite=False) as other:
            (other / "deep").mkdir()
            (other / "a").write_text("other")
            (other / "deep" / "b").write_text("other")
            write_report(other, {})
        assert (one / "a").read_text() == "one"
        assert folder_says(path) == "other"
        with pytest.raises(InputError, match="exists already"):
            check_out(path, overwrite=False)
        write_folder(path, "third")
        (one / "deep").mkdir()
        (one / "deep" / "b").write_text("one")
        write_report(one, {})
        # The first one finds in the end that it came too late.
        path.rename(tmp_path / "elsewhere")
    assert folder_says(path) == "one"


def test_of_two_writers_that_may_not_overwrite_one_comes_too_late(tmp_path: Path) -> None:
    path = tmp_path / "made"

    def both() -> None:
        with output_files(path, overwrite=False) as target:
            target.write_text("one")
            write_one(path, "other")

    with pytest.raises(InputError, match="exists already"):
        both()
    assert path.read_text() == "other"


def test_what_a_writer_left_before_it_had_a_lock(tmp_path: Path) -> None:
    (tmp_path / ".made.partial-12345678").mkdir()
    (tmp_path / ".made.partial-mine").mkdir()
    (tmp_path / ".made.partial-mine" / "notes.txt").write_text("mine")
    check_files(tmp_path / "made", False)
    assert [file.name for file in tmp_path.iterdir()] == [".made.partial-mine"]


def test_a_signal_waits_for_the_end_of_what_may_not_be_broken_off() -> None:
    done = []

    def work() -> None:
        with stoppable(), deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append(1)

    with pytest.raises(Terminated) as stop:
        work()
    assert done == [1]
    assert stop.value.exit_code == 143


def test_a_signal_that_a_destructor_swallows_comes_again() -> None:
    import time

    class Swallows:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)

    def work() -> None:
        with stoppable():
            Swallows()
            time.sleep(5)

    before = time.monotonic()
    with pytest.raises(Terminated):
        work()
    assert time.monotonic() - before < 4


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_that_a_library_makes_an_error_of_is_one_again(number: int, kind: type[BaseException]) -> None:
    # Tests that a shell runs in its background inherit from it that Ctrl-C is ignored.
    before = signal.signal(number, signal.default_int_handler)

    def work() -> None:
        with stoppable():
            try:
                signal.raise_signal(number)
            except BaseException:
                raise RuntimeError("capture failed") from None

    try:
        with pytest.raises(kind) as stop:
            work()
    finally:
        signal.signal(number, before)
    assert type(stop.value) is kind


def test_a_long_name(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250)
    write_one(path, "long")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_nohup_stays_in_force() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable(), deferred():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
