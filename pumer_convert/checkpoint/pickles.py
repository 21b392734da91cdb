"""Torch files, read with weights-only loading: nothing in them is ever run."""

import pickle
import pickletools
import re
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pumer_convert.checkpoint.sources import MappedFile, Unchanged
from pumer_convert.checkpoint.state import find_state, is_tensor, kind
from pumer_convert.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

_INERT = (
    "__main__.",
    "accelerate.",
    "addict.",
    "argparse.",
    "box.",
    "builtins.bool",
    "builtins.dict",
    "builtins.float",
    "builtins.frozenset",
    "builtins.int",
    "builtins.list",
    "builtins.object",
    "builtins.slice",
    "builtins.str",
    "builtins.tuple",
    "collections.",
    "copyreg._reconstructor",
    "datetime.",
    "decimal.",
    "easydict.",
    "lightning.",
    "lightning_fabric.",
    "ml_collections.",
    "munch.",
    "numpy.",
    "omegaconf.",
    "pathlib.",
    "pytorch_lightning.",
    "sacred.",
    "torch.nn.",
    "torch.optim.",
    "torch.torch_version.",
    "torchmetrics.",
    "transformers.",
    "types.SimpleNamespace",
    "typing.",
    "yacs.",
)
"""What trainers pickle beside the weights: settings, numbers, schedules, losses. Stand-ins take their place."""
_DICTIONARY = re.compile(r"(dict|Dict|Box|Munch|CfgNode)$")
_ERRORS = (
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OSError,
    MemoryError,
    OverflowError,
    zipfile.BadZipFile,
    pickle.UnpicklingError,
    struct.error,
)
"""What weights-only loading ends in when a file is damaged."""


class StandIn:
    """An object of another library that was pickled beside the weights; `state` is what it had in it."""

    stands_for = ""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        """An empty one, or a dictionary in the place of another kind of dictionary."""
        return OrderedDict() if _DICTIONARY.search(cls.stands_for) else object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        self.state: Any = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state


class PickleSource:
    """A torch file; `hints` are the whole numbers beside the state dict and the plain hyper-parameters of a
    Lightning file, `notes` what there is to say of it."""

    def __init__(self, file: Path) -> None:
        self._file, self._unchanged = file, Unchanged([file])
        content = _load(file)
        self._keys, notes = find_state(content, file)
        # Beside a state dict: how far the training went.
        numbers = {n: v for n, v in content.items() if self._keys and type(v) is int}
        self.hints = {**numbers, **_plain(content.get("hyper_parameters", {}))}
        if isinstance(self.hints.get("config"), dict):
            self.hints = self.hints["config"]
        state = self._state(content)
        odd = [name for name, value in state.items() if not is_tensor(value)]
        for name in odd:
            if not isinstance(name, str) or ("." in name and not name.endswith("_extra_state")):
                raise InputError(
                    f"{file}: '{name}' is a {kind(state[name])}, not a tensor; a checkpoint's state dict holds tensors "
                    "only."
                )
        if odd:
            notes.append(f"The file's {', '.join(f'{name!r}' for name in odd[:5])} are no tensors, and were left out.")
        strange = next((name for name in state if not isinstance(name, str)), None)
        if strange is not None:
            raise InputError(f"{file}: its state dict has the key {strange!r}, which is no name.")
        self.notes = tuple(notes)
        self._what = {n: (tuple(t.shape), _type(t)) for n, t in state.items() if n not in odd}

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
        def open_file() -> "Callable[[str], Tensor]":
            self._unchanged.check()
            return self._state(_load(self._file)).__getitem__

        yield MappedFile(open_file).read
        self._unchanged.check()

    def _state(self, content: Any) -> "Mapping[str, Tensor]":
        for key in self._keys:
            content = content[key]
        return content  # type: ignore[no-any-return]


def _type(tensor: "Tensor") -> str:
    """Its element type as torch spells it; with what makes it no plain tensor of values, if there is anything."""
    import torch

    name = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_meta:
        return f"{name} without values (on the meta device)"
    return name if tensor.layout == torch.strided else f"{name}, {str(tensor.layout).removeprefix('torch.')}"


def _load(file: Path) -> Any:
    import torch

    zipped = zipfile.is_zipfile(file)
    broken = InputError(f"{file}: not a whole torch checkpoint (truncated or damaged); copy or download it again.")
    try:
        stored = _check_archive(file) if zipped else False
        asked = torch.serialization.get_unsafe_globals_in_checkpoint(file) if zipped else _legacy_globals(file)
    except _ERRORS as error:
        raise _protocol(file, error) or broken from None
    stand_ins: list[Any] = []
    for name in asked:
        if name.startswith(_INERT):
            stand_ins.append((_stand_in(name), name))
        elif zipped:
            raise _code(file, name)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
            warnings.simplefilter("ignore")  # about the pickle's protocol
            if file.suffix != ".safetensors":
                return torch.load(file, map_location="cpu", weights_only=True, mmap=stored)
            with file.open("rb") as stream:  # of a path, torch goes by the name
                return torch.load(stream, map_location="cpu", weights_only=True)
    except _ERRORS as error:
        if (found := re.search(r"GLOBAL (\S+)", str(error))) is not None:
            raise _code(file, found[1]) from None
        raise _protocol(file, error) or broken from None


def _check_archive(file: Path) -> bool:
    """Whether the archive's parts are stored as they are, so that they can be mapped. Raises InputError when it is no
    checkpoint of torch."""
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
    names = [part.filename for part in parts]
    if any(name.endswith("/constants.pkl") for name in names):
        raise InputError(f"{file}: a TorchScript program, not a checkpoint; save the model's state_dict() instead.")
    if not any(name.endswith("data.pkl") for name in names):
        raise InputError(f"{file}: a zip archive, and none that torch.save wrote; unpack it and give what is in it.")
    return all(part.compress_type == zipfile.ZIP_STORED for part in parts)


def _legacy_globals(file: Path) -> list[str]:
    """What the pickles of a file from before torch 1.6 ask for: a number, a version, the system, and the content."""
    asked: dict[str, None] = {}
    with file.open("rb") as stream:
        for _ in range(4):
            for op, argument, _place in pickletools.genops(stream):
                if op.name == "GLOBAL":
                    asked[str(argument).replace(" ", ".")] = None
    return list(asked)


def _protocol(file: Path, error: Exception) -> InputError | None:
    if isinstance(error, InputError):
        return error
    if "Unsupported operand" in str(error) or "Invalid magic number" in str(error):
        return InputError(
            f"{file}: a pickle that weights-only loading does not read; save the state dict once more by torch.save, "
            "without a pickle_protocol, or as safetensors."
        )
    return None


def _stand_in(name: str) -> type:
    return type("Empty", (StandIn,), {"stands_for": name})


def _code(file: Path, name: str) -> InputError:
    return InputError(
        f"{file}: its pickle asks for '{name}', which is code and not weights; it was refused and nothing was run. "
        "Save the state dict alone and try again."
    )


def _plain(value: Any) -> dict[str, Any]:
    """The plain values of settings; also of argparse's Namespace and of omegaconf's nodes, as they are pickled."""
    if isinstance(value, StandIn):
        value = value.state
    if isinstance(value, Mapping) and isinstance(value.get("_content"), Mapping):
        value = value["_content"]
    if not isinstance(value, Mapping):
        return {}
    found = {str(name): _plain_value(item) for name, item in value.items()}
    plain = (int, float, str, bool, dict, list, tuple)
    return {name: item for name, item in found.items() if item is None or isinstance(item, plain)}


def _plain_value(item: Any) -> Any:
    state = item.state if isinstance(item, StandIn) else item
    if not isinstance(state, Mapping):
        return item
    return state["_val"] if isinstance(item, StandIn) and "_val" in state else _plain(state)
