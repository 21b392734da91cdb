"""A checkpoint known again: by what its files hold, not by where they lie.

Hashing a 7B model takes a minute, so of large tensors only samples are read: `BLOCK` bytes of every `STRIDE`, and the
last. Small ones, which heads and norms are, are read whole, as are names, shapes and types and config.json. Of a torch
file the checksums are taken that its zip holds of all tensors; one of before there were zips is read whole.
"""

import hashlib
import json
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pumer_convert.checkpoint.kinds import is_safetensors
from pumer_convert.checkpoint.locate import config_of
from pumer_convert.checkpoint.sources import safetensors_header
from pumer_convert.system.json_file import read_object
from pumer_convert.weights import Checkpoint

BLOCK = 2**12
STRIDE = 2**20
WHOLE = 2**16
"""Bytes up to which a tensor is read whole."""


def fingerprint(checkpoint: Checkpoint) -> str:
    """A hash that two checkpoints share when they have the same weights in the same files, and the same config.json."""
    found = hashlib.sha256()
    for file in sorted(checkpoint.source.files(), key=lambda file: file.name):
        found.update(_of_file(file))
    config = config_of(checkpoint.path)
    if config is not None:
        found.update(json.dumps(read_object(config), sort_keys=True).encode())
    return found.hexdigest()


def _of_file(file: Path) -> bytes:
    told = hashlib.sha256(str(file.stat().st_size).encode())
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as content:
            for entry in content.infolist():
                # The first part of a name is that of the file when it was saved.
                told.update(f"{entry.filename.partition('/')[2]} {entry.file_size} {entry.CRC}".encode())
        return told.digest()
    with file.open("rb") as stream:
        for begin, end in _tensors(file):
            for place in _blocks(begin, end):
                stream.seek(place)
                told.update(stream.read(min(BLOCK, end - place)))
    return told.digest()


def _tensors(file: Path) -> Iterator[tuple[int, int]]:
    """Where the parts of a file begin and end, those of a header or of an unknown form in small pieces."""
    first = file.stat().st_size
    with_header = is_safetensors(file)
    if with_header:
        with file.open("rb") as stream:
            first = 8 + struct.unpack("<Q", stream.read(8))[0]
    for begin in range(0, first, WHOLE):
        yield begin, min(begin + WHOLE, first)
    if not with_header:
        return
    entries: list[Any] = list(safetensors_header(file).values())
    for begin, end in sorted(tuple(entry["data_offsets"]) for entry in entries):
        yield first + begin, first + end


def _blocks(begin: int, end: int) -> Iterator[int]:
    if end - begin <= WHOLE:
        yield from range(begin, end, BLOCK)
        return
    yield from range(begin, end - BLOCK, STRIDE)
    yield end - BLOCK
