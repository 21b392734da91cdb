"""The one form that every readable checkpoint is brought into, before any weight is read."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from math import isfinite, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pumer_convert.errors import InputError
from pumer_convert.system.json_file import parse_object, read_object

if TYPE_CHECKING:
    from torch import Tensor

PROCESSOR = "preprocessor_config.json"
"""The small file that says how pictures become pixels."""
CONFIGS = ("config.json", "open_clip_config.json")
"""Files that say what weights are of: transformers', and open_clip's."""
NESTED_PROCESSOR = "processor_config.json"
"""The file in which transformers 5 says so, under "image_processor"; where that is there, it goes before the other."""
EMBEDDINGS = "embeddings"
"""What a checkpoint is for whose model gives embeddings and answers nothing."""
BYTES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "uint8": 1,
    "bool": 1,
}
FLOATS = ("float64", "float32", "float16", "bfloat16")
"""Types that weights are read in."""


class TensorSource(Protocol):
    """Named tensors in a file or a set of files, read one at a time."""

    def names(self) -> list[str]:
        """Keys, in the order of the file."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one tensor, from the header alone."""
        ...

    def dtype(self, name: str) -> str:
        """Element type as torch spells it, without the prefix: "float32"."""
        ...

    def files(self) -> tuple[Path, ...]:
        """The files themselves."""
        ...

    def reader(self) -> "AbstractContextManager[Callable[[str], Tensor]]":
        """While open: gives a tensor by its name, on the CPU. Nothing of the files stays mapped for it afterwards."""
        ...


@dataclass(frozen=True)
class RawCheckpoint:
    """What a reader found on disk, before any family has looked at it.

    `config` is the folder's config.json ({} for a bare file); `hints` holds the plain values of a Lightning file's
    hyper-parameters, whole numbers beside a state dict, and those of open_clip's config beside the weights;
    `companions` are the tokenizer and processor files there; `notes` are sentences on what was chosen of a file.
    """

    path: Path
    source: TensorSource
    config: Mapping[str, Any]
    hints: Mapping[str, Any]
    companions: tuple[Path, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TensorSlice:
    """Where a tensor of the one form lies: a key of the source, the rows of it (all when None); `turned`: it is the
    transpose; `most`: larger values count as that."""

    key: str
    rows: tuple[int, int] | None = None
    turned: bool = False
    most: float | None = None

    def cut(self, tensor: "Tensor") -> "Tensor":
        """It, of the tensor under its key."""
        tensor = tensor if self.rows is None else tensor[self.rows[0] : self.rows[1]]
        tensor = tensor.T.contiguous() if self.turned else tensor
        return tensor if self.most is None else tensor.clamp(max=self.most)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in the one form.

    `config` is what config.json of an output folder holds; `slices` maps this project's parameter names to the
    source; `ignored` are keys of the source that are known and not needed; `extra_files` are small files to be
    written beside the weights because the source has none (name -> text); `notes` are sentences for the report.
    """

    path: Path
    origin: str
    family: str
    task: str
    config: dict[str, Any]
    source: TensorSource
    slices: dict[str, TensorSlice]
    ignored: tuple[str, ...] = ()
    companions: tuple[Path, ...] = ()
    extra_files: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        raw: RawCheckpoint,
        origin: str,
        family: str,
        task: str,
        config: dict[str, Any],
        slices: dict[str, TensorSlice],
        **more: Any,
    ) -> "Checkpoint":
        """What was found on disk, in the one form; all of it that is none of the `slices` is ignored."""
        used = {piece.key for piece in slices.values()}
        ignored = tuple(name for name in raw.source.names() if name not in used)
        found = cls(raw.path, origin, family, task, config, raw.source, slices, ignored, raw.companions)
        return replace(found, **more)

    @property
    def files(self) -> tuple[Path, ...]:
        """All that it is read from."""
        folder, names = (self.path, CONFIGS) if self.path.is_dir() else (self.path.parent, CONFIGS[1:])
        config = tuple(folder / name for name in names if (folder / name).exists())
        return (*self.source.files(), *config, *self.companions)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of the parameter `name` of the one form."""
        piece = self.slices[name]
        shape = self.source.shape(piece.key)
        if piece.turned:
            return shape[::-1]
        return shape if piece.rows is None else (piece.rows[1] - piece.rows[0], *shape[1:])

    def tensors(self, change: "Callable[[str, Tensor], Tensor] | None" = None) -> "Iterator[tuple[str, Tensor]]":
        """Every parameter of the one form in turn, on the CPU and in the type it is stored in, through `change`; no
        more than one needs to be in memory. Raises InputError at the first with a NaN or an infinity."""
        with self.source.reader() as read:
            for name, piece in self.slices.items():
                tensor = piece.cut(read(piece.key))
                check_finite(tensor, name, self.path)
                yield name, tensor if change is None else change(name, tensor)

    def number(self, name: str) -> float:
        """The one number that a parameter is. Raises InputError for one with more, for a NaN and an infinity."""
        with self.source.reader() as read:
            tensor = self.slices[name].cut(read(self.slices[name].key))
        check_finite(tensor, name, self.path)
        if tensor.numel() != 1:
            raise InputError(f"{self.path}: '{name}' has to be one number, not {tensor.numel()}.")
        return float(tensor)

    @property
    def processor(self) -> dict[str, Any] | None:
        """What its files say of how pictures become pixels, None when they say nothing; transformers' keys and
        meanings, see data/image.py. Raises InputError for a file that is no JSON object."""
        return processor_of(self.path, self.companions, self.extra_files)

    def with_processor(self, values: Mapping[str, Any]) -> "Checkpoint":
        """The same with another processor, in one file of its own, and without the companions that told of one."""
        told = [file for file in self.companions if file.name in (PROCESSOR, NESTED_PROCESSOR)]
        rest = tuple(file for file in self.companions if file not in told)
        extra = {**self.extra_files, PROCESSOR: json.dumps(values, indent=2)}
        return replace(self, companions=rest, extra_files=extra)

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(prod(self.shape(name)) for name in self.slices)

    @property
    def bytes(self) -> int:
        """Size of the weights in bytes."""
        return sum(prod(self.shape(name)) * BYTES.get(self.source.dtype(p.key), 4) for name, p in self.slices.items())


def processor_of(path: Path, files: Iterable[Path], extra: Mapping[str, str] | None = None) -> dict[str, Any] | None:
    """What small files, on disk or not yet written, say of how pictures become pixels; None when they say nothing.

    As in transformers, "image_processor" in processor_config.json goes before preprocessor_config.json. A
    processor_config.json that has the keys themselves counts where there is no other. `path` is for messages. Raises
    InputError for a file that is no JSON object.
    """
    names = (NESTED_PROCESSOR, PROCESSOR)
    found = {name: parse_object(text, f"{path}: its {name}") for name, text in (extra or {}).items() if name in names}
    found |= {file.name: read_object(file) for file in files if file.name in names}
    nested = found.get(NESTED_PROCESSOR, {})
    inner = nested.get("image_processor")
    if isinstance(inner, dict):
        return inner
    if PROCESSOR in found:
        return found[PROCESSOR]
    # Keys that some tool wrote without the level between.
    return nested if nested.keys() & {"image_processor_type", "image_mean", "do_resize", "size"} else None


def check_finite(tensor: "Tensor", name: str, where: object) -> None:
    """Raises InputError when a tensor has a NaN or an infinity."""
    if not is_finite(tensor):
        raise InputError(f"{where}: the weights hold a NaN or an infinity, in '{name}'.")


def is_finite(tensor: "Tensor") -> bool:
    """Whether a tensor has neither a NaN nor an infinity. By the least and the greatest, which a NaN takes over: one
    pass, where isfinite() of every value makes five."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    least, greatest = tensor.aminmax()
    return isfinite(least) and isfinite(greatest)
