"""Tensors on disk: safetensors read lazily, several sources as one, a source under other names."""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pumer_convert.errors import InputError
from pumer_convert.system.json_file import parse_object
from pumer_convert.system.whole import mark
from pumer_convert.weights import BYTES, TensorSource

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "U8": "uint8",
    "BOOL": "bool",
}
"""Types by their names in safetensors files."""
MAPPED = 2**27
"""Bytes of a mapped file that may be in memory before it is mapped anew."""


class Unchanged:
    """Files of which a part was read already: the rest, which is read later, has to be of the same files."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._marks = {file: mark(file) for file in files}

    def check(self) -> None:
        """Raises InputError naming a file that was written or replaced since."""
        for file, known in self._marks.items():
            if mark(file) != known:
                raise InputError(f"{file}: was changed after it had been opened; start again.")


class SafetensorsSource:
    """One safetensors file, or the shards of an index; headers are read at once, tensors when asked for."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files, self._unchanged = tuple(files), Unchanged(files)
        self._where: dict[str, tuple[Path, str, tuple[int, ...]]] = {}
        for file in files:
            header = safetensors_header(file)
            _check_opens(file)
            for name, entry in header.items():
                if name in self._where:
                    raise _twice(name, self._where[name][0], file)
                self._where[name] = (file, DTYPES.get(entry["dtype"], entry["dtype"]), tuple(entry["shape"]))

    def names(self) -> list[str]:
        return list(self._where)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._where[name][2]

    def dtype(self, name: str) -> str:
        return self._where[name][1]

    def files(self) -> tuple[Path, ...]:
        return self._files

    @contextmanager
    def reader(self) -> "Iterator[Callable[[str], Tensor]]":
        from safetensors import safe_open

        files: dict[Path, MappedFile] = {}

        def open_file(path: Path) -> "Callable[[str], Tensor]":
            self._unchanged.check()
            return safe_open(path, framework="pt").get_tensor

        def read(name: str) -> "Tensor":
            path = self._where[name][0]
            if path not in files:
                files.clear()
                files[path] = MappedFile(lambda: open_file(path))
            return files[path].read(name)

        yield read
        self._unchanged.check()


class MappedFile:
    """The tensors of a file. What was read stays mapped, and counts as memory, until the file is let go: it is opened
    anew after `MAPPED` bytes."""

    def __init__(self, open_file: "Callable[[], Callable[[str], Tensor]]") -> None:
        self._open, self._get, self._bytes = open_file, open_file(), 0

    def read(self, name: str) -> "Tensor":
        if self._bytes > MAPPED:
            self._get, self._bytes = self._open(), 0
        tensor = self._get(name)
        self._bytes += tensor.nbytes
        return tensor


def safetensors_header(file: Path) -> dict[str, Any]:
    """The entries of a file's header. Raises InputError when the file is not whole."""
    size = file.stat().st_size
    broken = InputError(f"{file}: not a whole safetensors file (truncated or damaged); copy or download it again.")
    with file.open("rb") as stream:
        first = stream.read(8)
        if len(first) < 8:
            raise broken
        (length,) = struct.unpack("<Q", first)
        if length > min(size, 100_000_000):
            raise broken
        header = parse_object(stream.read(length), f"{file}: its header")
    header.pop("__metadata__", None)
    try:
        end = max((_check_entry(entry) for entry in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise broken from None
    if 8 + length + end != size:
        raise broken
    return header


def _check_opens(file: Path) -> None:
    """Raises InputError for a file that safetensors itself would refuse, when it is opened for its tensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np"):  # numpy, for torch takes seconds to load
            pass
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: not a whole safetensors file ({error}); copy or download it again.") from None


def _check_entry(entry: dict[str, Any]) -> int:
    """Where an entry of a header ends. Raises ValueError, KeyError or TypeError when it is none."""
    start, end = entry["data_offsets"]
    whole = all(type(n) is int and n >= 0 for n in (start, end, *entry["shape"]))
    if not whole or not isinstance(entry["dtype"], str) or start > end:
        raise ValueError
    known = DTYPES.get(entry["dtype"])
    if known is not None and prod(entry["shape"]) * BYTES[known] != end - start:
        raise ValueError
    return int(end)


class MergedSource:
    """Several sources as one: the shards of an index of which not all are safetensors."""

    def __init__(self, sources: Mapping[Path, TensorSource]) -> None:
        self._files = tuple(sources)
        self._at: dict[str, TensorSource] = {}
        files: dict[str, Path] = {}
        for file, source in sources.items():
            for name in source.names():
                if name in files:
                    raise _twice(name, files[name], file)
                self._at[name], files[name] = source, file

    def names(self) -> list[str]:
        return list(self._at)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._at[name].shape(name)

    def dtype(self, name: str) -> str:
        return self._at[name].dtype(name)

    def files(self) -> tuple[Path, ...]:
        return self._files

    @contextmanager
    def reader(self) -> "Iterator[Callable[[str], Tensor]]":
        with ExitStack() as stack:
            read = {source: stack.enter_context(source.reader()) for source in dict.fromkeys(self._at.values())}
            yield lambda name: read[self._at[name]](name)


class RenamedSource:
    """A source under other names: `old` gives each its name in the file."""

    def __init__(self, inner: TensorSource, old: Mapping[str, str]) -> None:
        self._inner, self._old = inner, old

    def names(self) -> list[str]:
        return list(self._old)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._inner.shape(self._old[name])

    def dtype(self, name: str) -> str:
        return self._inner.dtype(self._old[name])

    def files(self) -> tuple[Path, ...]:
        return self._inner.files()

    @contextmanager
    def reader(self) -> "Iterator[Callable[[str], Tensor]]":
        with self._inner.reader() as read:
            yield lambda name: read(self._old[name])


def _twice(name: str, one: Path, other: Path) -> InputError:
    return InputError(f"{other}: holds '{name}', which {one.name} holds as well; the files are not of one checkpoint.")
