"""The folder beside a target in which its files are made, and how they come to their place in one step.

    .NAME.partial-XXXXXXXX/
      lock            locked (flock) as long as its writer lives
      new/            what is being written
      commit.json     a set of files is whole: which of new/ go beside the target, and which earlier ones go
      old/            the folder that was replaced, where the system cannot exchange two names in one step

Whatever stops the writer, its target is old or new: a folder is exchanged in one step, and of a set of files all are
moved once commit.json is there, by the next writer if need be (`recover`).
"""

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pumer_convert.system.signals import deferred

LOCK, NEW, OLD, JOURNAL = "lock", "new", "old", "commit.json"
RENAME_EXCHANGE, AT_FDCWD = 2, -100


@contextlib.contextmanager
def partial_folder(path: Path) -> Iterator[Path]:
    """A locked folder beside `path`, with new/ in it; gone afterwards. Raises OSError when it cannot be made."""
    made: tuple[Path, int] | None = None
    try:
        with deferred():
            made = _make(path)
        yield made[0]
    finally:
        if made is not None:
            with deferred():
                _close(*made, path)


def recover(path: Path) -> None:
    """Finish or remove what writers of `path` that were killed have left beside it."""
    parent = path.absolute().parent
    if not os.access(parent, os.W_OK):
        return
    for folder in sorted(parent.iterdir()):
        if folder.name.startswith(_prefix(path)) and folder.is_dir() and not folder.is_symlink():
            _recover(folder, path)


def settle(partial: Path) -> None:
    """What is in new/ survives a power failure from now on. It takes a while: what is checked of the target is checked
    afterwards."""
    _sync(partial / NEW)


def commit_folder(partial: Path, path: Path, replace: bool) -> None:
    """Put new/ where nothing is, or with `replace` in the place of the folder `path`. Raises FileExistsError, or
    OSError with ENOTEMPTY, for a folder that came to be there meanwhile."""
    with deferred():
        # An empty folder is replaced by a rename.
        if not replace or not path.exists() or not any(path.iterdir()):
            (partial / NEW).rename(path)
        elif not _exchange(partial / NEW, path):
            path.rename(partial / OLD)
            (partial / NEW).rename(path)
        _sync(path.absolute().parent, within=False)


def commit_files(partial: Path, path: Path, removed: Sequence[str]) -> None:
    """Move the files of new/ beside `path` and remove those named, all or none."""
    told = json.dumps({"files": sorted(file.name for file in (partial / NEW).iterdir()), "removed": list(removed)})
    with deferred():
        draft = partial / f"{JOURNAL}.draft"
        draft.write_text(told, "utf-8")
        _sync(draft)
        draft.rename(partial / JOURNAL)
        _sync(partial, within=False)
        _finish(partial, path)


def _prefix(path: Path) -> str:
    return f".{path.name[:200]}.partial-"


def _make(path: Path) -> tuple[Path, int]:
    """The folder and its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_prefix(path), dir=path.absolute().parent))
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue  # taken for left behind, before it had a lock
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue  # likewise
        except OSError:
            pass  # a file system without locks, where nothing left behind is removed either
        if os.fstat(lock).st_nlink:
            folder.chmod(0o755)
            (folder / NEW).mkdir()
            return folder, lock
        os.close(lock)


def _close(folder: Path, lock: int, path: Path) -> None:
    try:
        _finish(folder, path)
        # The lock is the last to go: without it nobody could tell that the rest was left behind.
        for entry in folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != LOCK:
                entry.unlink(missing_ok=True)
        if [entry.name for entry in folder.iterdir()] == [LOCK]:
            (folder / LOCK).unlink()
            folder.rmdir()
    finally:
        os.close(lock)


def _recover(folder: Path, path: Path) -> None:
    try:
        lock = os.open(folder / LOCK, os.O_RDWR)
    except FileNotFoundError:
        with contextlib.suppress(OSError):
            folder.rmdir()  # killed before it had a lock
        return
    except OSError:
        return  # another user's
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)  # its writer is at work
        return
    with deferred():
        _close(folder, lock, path)


def _finish(folder: Path, path: Path) -> None:
    """Go through with a commit that has begun."""
    parent, journal = path.absolute().parent, folder / JOURNAL
    if (folder / OLD).exists() and not os.path.lexists(path):
        (folder / OLD).rename(path)
    if not journal.exists():
        return
    told = json.loads(journal.read_text("utf-8"))
    for name in told["files"]:
        if (folder / NEW / name).exists():
            (folder / NEW / name).replace(parent / name)
    for name in told["removed"]:
        (parent / name).unlink(missing_ok=True)
    _sync(parent, within=False)
    journal.unlink()


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system or the file system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    return bool(rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0)


def _sync(path: Path, within: bool = True) -> None:
    """What was written there survives a power failure from now on."""
    if path.is_symlink():
        return  # it may lead somewhere only from the place that it comes to
    if path.is_dir() and within:
        for entry in path.iterdir():
            _sync(entry)
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
