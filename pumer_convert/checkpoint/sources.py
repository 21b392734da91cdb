"""Tensors on disk: safetensors read lazily, pickles with weights-only loading."""

import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pumer_convert.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "U8": "uint8",
    "BOOL": "bool",
}
MAPPED = 2**27
"""Bytes of a mapped file that may be in memory before it is mapped anew."""
_INERT = ("sacred.", "pytorch_lightning.", "lightning.", "omegaconf.", "argparse.")
"""Modules whose classes Lightning files pickle beside the weights; they are replaced by empty stand-ins."""


class SafetensorsSource:
    """One safetensors file, or the shards of an index; headers are read at once, tensors when asked for."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = tuple(files)
        self._where: dict[str, tuple[Path, str, tuple[int, ...]]] = {}
        for file in files:
            for name, entry in safetensors_header(file).items():
                self._where[name] = (file, _DTYPES.get(entry["dtype"], entry["dtype"]), tuple(entry["shape"]))

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

        files: dict[Path, _Mapped] = {}

        def read(name: str) -> "Tensor":
            path = self._where[name][0]
            if path not in files:
                files.clear()
                files[path] = _Mapped(lambda: safe_open(path, framework="pt").get_tensor)
            return files[path].read(name)

        yield read


class _Mapped:
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
            raise _lfs(file) or broken
        try:
            header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise broken from None
    if 8 + length + end != size:
        raise broken
    return header  # type: ignore[no-any-return]


class PickleSource:
    """A torch file read with weights-only loading; `hints` are the plain hyper-parameters of a Lightning file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        content = _load(file)
        if not isinstance(content, Mapping):
            raise InputError(f"{file}: holds a {type(content).__name__}, not named tensors.")
        self.hints = _plain(content.get("hyper_parameters", {}))
        if isinstance(self.hints.get("config"), dict):
            self.hints = self.hints["config"]
        state = _state(content)
        import torch

        odd = [str(name) for name, value in state.items() if not isinstance(value, torch.Tensor)]
        if odd:
            raise InputError(f"{file}: '{odd[0]}' is not a tensor; a checkpoint's state dict holds tensors only.")
        self._what = {n: (tuple(t.shape), str(t.dtype).removeprefix("torch.")) for n, t in state.items()}

    def names(self) -> list[str]:
        return list(self._what)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._what[name][0]

    def dtype(self, name: str) -> str:
        return self._what[name][1]

    def files(self) -> tuple[Path, ...]:
        return (self._file,)

    @contextmanager
    def reader(self) -> "Iterator[Callable[[str], Tensor]]":
        yield _Mapped(lambda: _state(_load(self._file)).__getitem__).read


class MergedSource:
    """Several sources as one: the shards of a `pytorch_model.bin.index.json`."""

    def __init__(self, sources: Sequence[PickleSource]) -> None:
        self._files = tuple(file for source in sources for file in source.files())
        self._at = {name: source for source in sources for name in source.names()}

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


def _state(content: Mapping[str, Any]) -> "Mapping[str, Tensor]":
    state: Mapping[str, Tensor] = content.get("state_dict", content)
    return state


def _load(file: Path) -> Any:
    import pickle
    import warnings
    import zipfile

    import torch

    zipped = zipfile.is_zipfile(file)
    broken = InputError(f"{file}: not a whole torch checkpoint (truncated or damaged); copy or download it again.")
    stand_ins: list[Any] = []
    if zipped:
        try:
            unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(file)
        except (RuntimeError, ValueError, EOFError, OSError, pickle.UnpicklingError):
            raise broken from None
        for name in unsafe:
            if not name.startswith(_INERT):
                raise _code(file, name)
            stand_ins.append((_stand_in(name), name))
    elif (lfs := _lfs(file)) is not None:
        raise lfs
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
            warnings.simplefilter("ignore")  # about the pickle's protocol
            return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        words = str(error).split("GLOBAL ")
        if len(words) > 1:
            raise _code(file, words[1].split()[0]) from None
        raise broken from None
    except (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, OSError):
        raise broken from None


def _stand_in(name: str) -> type:
    base: type = object
    if name.endswith("Dict"):
        base = dict
    elif name.endswith("List"):
        base = list
    return type(name.rsplit(".", 1)[1], (base,), {"__module__": name.rsplit(".", 1)[0]})


def _code(file: Path, name: str) -> InputError:
    return InputError(
        f"{file}: its pickle asks for '{name}', which is code and not weights; it was refused and nothing was run. "
        "Save the state dict alone and try again."
    )


def _lfs(file: Path) -> InputError | None:
    with file.open("rb") as stream:
        if stream.read(40).startswith(b"version https://git-lfs"):
            return InputError(f"{file}: a Git LFS pointer, not the weights; fetch them with `git lfs pull`.")
    return None


def _plain(value: Any) -> dict[str, Any]:
    def keep(item: Any) -> bool:
        return item is None or isinstance(item, int | float | str | bool | dict | list | tuple)

    if not isinstance(value, Mapping):
        return {}
    return {str(k): _plain(v) if isinstance(v, Mapping) else v for k, v in value.items() if keep(v)}
