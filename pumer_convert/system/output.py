"""Where a verb may write, and writing there: what was there stays until the new is whole, and goes in one step."""

import contextlib
import errno
import os
import shutil
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path

from pumer_convert.errors import InputError
from pumer_convert.system.owned import listed, strangers, unproven
from pumer_convert.system.partial import NEW, commit_files, commit_folder, partial_folder, recover, settle
from pumer_convert.system.whole import mark

SHOWN = 5
"""Files that a refusal names."""
CACHES = (".timing",)
"""Files that are written anew from what they said: no reason to refuse, and nothing to prove."""


def check_out(path: Path, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """Raises InputError for a folder that `output_folder` would refuse, so that long work need not find out last.

    What a killed run left beside it is finished or removed first.
    """
    _check_parent(path)
    recover(path)
    _check_folder(path, overwrite, inputs)


def check_files(
    path: Path, overwrite: bool, *, parts: Sequence[str] = (), beside: Iterable[str] = (), inputs: Iterable[Path] = ()
) -> None:
    """Raises InputError for files that `output_files` would refuse, as `check_out` does for folders."""
    _check_parent(path)
    recover(path)
    _check_set(path, overwrite, parts, [path.name, *(path.name + part for part in parts), *beside], inputs)


@contextlib.contextmanager
def output_folder(path: Path, overwrite: bool, inputs: Iterable[Path] = ()) -> Iterator[Path]:
    """A folder to fill, which becomes `path` when the block ends well and is removed when it does not.

    Raises InputError when `path` exists (with `overwrite`: when anything in it was not written by this project or was
    changed since, or it holds one of the `inputs`), when it cannot be written there, and when the disk is full.
    """
    inputs = list(inputs)
    check_out(path, overwrite, inputs)
    with _beside(path) as partial:
        yield partial / NEW
        settle(partial)
        _check_folder(path, overwrite, inputs)
        try:
            commit_folder(partial, path, overwrite)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            raise InputError(f"{path}: came to exist while this was written; use --overwrite.") from None


@contextlib.contextmanager
def changed_folder(path: Path) -> Iterator[Path]:
    """A folder with links to all that is in the folder `path`, to change: what is to be other is taken away there
    before it is written. It takes the place of `path` in one step when the block ends well, and is removed when it does
    not. Raises InputError when that cannot be done, and when `path` was changed meanwhile."""
    path = path.resolve()
    for place in (path, path.parent):
        if not os.access(place, os.W_OK):
            raise InputError(f"{path}: is exchanged as a whole, and {place} is not to be written to.")
    if path.is_mount():
        raise InputError(f"{path}: the root of a file system, which cannot be exchanged in one step.")
    recover(path)
    before = _state(path)
    with _beside(path) as partial:
        link_into(path, partial / NEW, stays=True)
        shutil.copystat(path, partial / NEW)
        yield partial / NEW
        settle(partial)
        if _state(path) != before:
            raise InputError(f"{path}: was changed while this was written; nothing was, try again.")
        commit_folder(partial, path, True)


def link_into(source: Path, folder: Path, leave: Container[str] = (), *, stays: bool = False) -> None:
    """Put all that is in `source`, but for the names to `leave`, into a `folder` that has nothing of those names, as
    hard links, or copies on another file system. `stays`: symbolic links stay as they are, for the folder comes to
    where `source` is."""
    for entry in sorted(source.iterdir()):
        place = folder / entry.name
        if entry.name in leave:
            continue
        if stays and entry.is_symlink():
            place.symlink_to(entry.readlink())
        elif entry.is_dir():
            place.mkdir()
            link_into(entry, place, stays=stays)
        else:
            link(entry, place)


def link(file: Path, place: Path) -> None:
    """A hard link to a file, or a copy on another file system."""
    try:
        os.link(file.resolve(), place)
    except OSError:
        shutil.copy2(file, place)


def _state(folder: Path) -> dict[str, tuple[int, int] | None]:
    return {str(file.relative_to(folder)): mark(file) for file in folder.rglob("*")}


@contextlib.contextmanager
def output_files(
    path: Path, overwrite: bool, *, parts: Sequence[str] = (), inputs: Iterable[Path] = ()
) -> Iterator[Path]:
    """A file to write, in a folder of its own; all files of that folder move beside `path`, together, when the block
    ends well.

    `parts` are the ends of the names of other files that belong to `path` (".json" is its sidecar, and lists them):
    one that is not written anew is removed. A file beside them that is there already with the same content stays.
    Raises InputError for one that exists; with `overwrite` for one of several that belong together when the sidecar
    does not prove that it is ours and unchanged, and for one of the `inputs`.
    """
    inputs = list(inputs)
    check_files(path, overwrite, parts=parts, inputs=inputs)
    with _beside(path) as partial:
        yield partial / NEW / path.name
        settle(partial)
        written = [file.name for file in sorted((partial / NEW).iterdir())]
        own = [path.name, *(path.name + part for part in parts)]
        _check_set(path, overwrite, parts, [*own, *written], inputs)
        gone = [name for name in own if name not in written and os.path.lexists(path.with_name(name))]
        commit_files(partial, path, gone)


def _check_parent(path: Path) -> None:
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: its parent folder does not exist.")


def _check_folder(path: Path, overwrite: bool, inputs: Iterable[Path]) -> None:
    if not os.path.lexists(path):
        return
    if path.is_symlink():
        raise InputError(f"{path}: a symbolic link, which is not replaced; name the folder itself, or another.")
    if not overwrite:
        raise InputError(f"{path}: exists already; use --overwrite.")
    if path.is_dir() and not any(path.iterdir()):
        return
    found = strangers(path) if path.is_dir() else None
    if found is None:
        raise InputError(f"{path}: exists already; it was not written by pumer-convert, so it is not overwritten.")
    for source in inputs:
        if source.resolve().is_relative_to(path.resolve()):
            raise InputError(f"{path}: holds {source}, which is read here; choose another place with -o.")
    if found:
        raise InputError(
            f"{path}: not overwritten, for not all in it is as pumer-convert wrote it: {_some(found)}; move that away, "
            "or choose another place with -o."
        )


def _check_set(path: Path, overwrite: bool, parts: Sequence[str], names: Iterable[str], inputs: Iterable[Path]) -> None:
    folder = path.absolute().parent
    there = [n for n in dict.fromkeys(names) if os.path.lexists(folder / n) and not n.endswith(CACHES)]
    read = {source.resolve() for source in inputs}
    for name in there:
        file = path.with_name(name)
        if file.is_symlink() or not file.is_file():
            what = "a symbolic link" if file.is_symlink() else "no ordinary file"
            raise InputError(f"{file}: {what}, which is not replaced; choose another place with -o.")
        if not overwrite:
            raise InputError(f"{file}: exists already; use --overwrite.")
        if file.resolve() in read:
            raise InputError(f"{file}: is read here, so it is not overwritten.")
    sidecar = f"{path.name}.json"
    if not parts or not there:
        return
    if listed(folder / sidecar) is None:
        raise InputError(
            f"{path.with_name(there[0])}: exists already; it was not written by pumer-convert, so it is not "
            "overwritten; move it away, or choose another place with -o."
        )
    if found := unproven(folder, sidecar, there):
        raise InputError(
            f"{folder}: not overwritten, for not all is as pumer-convert wrote it: {_some(found)}; move that away, or "
            "choose another place with -o."
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    with contextlib.ExitStack() as stack:
        try:
            partial = stack.enter_context(partial_folder(path))
        except OSError as error:
            raise InputError(f"{path}: cannot be written there ({error.strerror}).") from None
        try:
            yield partial
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise InputError(f"{path}: no space left on the device; nothing was written.") from None
            if error.errno == errno.EFBIG:
                raise InputError(
                    f"{path}: a file would be larger than is allowed (`ulimit -f`, or by the file system); nothing "
                    "was written."
                ) from None
            raise
