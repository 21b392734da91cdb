"""Reading what belongs together: files of one export, a file that is opened twice; or a clear refusal."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pumer_convert.errors import InputError
from pumer_convert.system.json_file import read_object
from pumer_convert.system.owned import LIST, digest

PARTS = ("", ".data", ".json")


@contextlib.contextmanager
def whole(path: Path) -> Iterator[None]:
    """Around the opening of the ONNX file at `path`. Raises InputError when it or its weights are not those that its
    sidecar tells of, or `unchanged` does. Without a sidecar, or with one of before
    those had hashes, there is nothing to compare."""
    with unchanged(path):
        check_whole(path)
        yield


@contextlib.contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Around reading several of the files. Raises InputError when another export took their place in the meantime."""
    files = [path.with_name(path.name + part) for part in PARTS]
    before = [mark(file) for file in files]
    yield
    if [mark(file) for file in files] != before:
        raise InputError(f"{path}: was replaced while it was opened; open it again.")


def check_whole(path: Path) -> None:
    """Raises InputError when the ONNX file at `path`, or its weights, are not those that its sidecar tells of."""
    try:
        hashes = read_object(path.with_name(f"{path.name}.json"))[LIST]
        own = {name: hashes[name] for name in (path.name, f"{path.name}.data") if name in hashes}
    except (InputError, LookupError, TypeError):
        return
    for name, value in own.items():
        file = path.with_name(name)
        if not file.is_file():
            raise InputError(f"{path}: {name} is missing; it belongs beside its sidecar.")
        if digest(file) != value:
            raise InputError(
                f"{path}: {name} is not the file that its sidecar tells of (an export was broken off, or a file was "
                "exchanged); export once more."
            )


def mark(file: Path) -> tuple[int, int] | None:
    """What changes when a file is written or replaced; None while there is none. The number of the inode is no part of
    it: file systems over a network may give one file several."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns
