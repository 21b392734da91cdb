"""The weights of a whole model with those of its vision part: files are linked unless something in them is another."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pumer_convert.checkpoint.locate import chosen_weights
from pumer_convert.checkpoint.sources import safetensors_header
from pumer_convert.checkpoint.write import rewrite
from pumer_convert.errors import InputError
from pumer_convert.system.output import link
from pumer_convert.weights import Checkpoint, TensorSlice

if TYPE_CHECKING:
    from torch import Tensor


def changed_weights(part: Checkpoint, whole: Checkpoint, own: bool) -> dict[str, tuple[int, ...]]:
    """The weights of the files of a whole model that are others in its vision part: name in the file -> its shape now.
    Raises InputError for one that is not there, and, unless the part is to have its `own`, for one that is another."""
    found: dict[str, tuple[int, ...]] = {}
    with whole.source.reader() as read:
        for name, tensor in part.tensors():
            piece = whole.slices.get(name)
            other = None if piece is None else piece.cut(read(piece.key))
            if piece is None or other is None or tensor.shape != other.shape:
                raise _other(part, whole, name)
            if not bool((tensor.to(other.dtype) == other).all()):
                if not own:
                    raise _other(part, whole, name)
                found[piece.key] = whole.source.shape(piece.key)
    return found


def _other(part: Checkpoint, whole: Checkpoint, name: str) -> InputError:
    return InputError(f"{part.path}: its '{name}' is not that of {whole.path}, whose weights the layout hf takes.")


def write_weights(part: Checkpoint, whole: Checkpoint, changed: Mapping[str, tuple[int, ...]], folder: Path) -> None:
    """Put the files of a whole model's weights into the folder, and their index: as links (copies on another file
    system), and written anew where they hold something `changed`. Raises InputError for that in a file that is not
    safetensors."""
    index = chosen_weights(whole.path)
    with whole.source.reader() as theirs, part.source.reader() as ours:
        for file in whole.source.files():
            within = _within(file, changed)
            if within:
                rewrite(file, folder / file.name, within, lambda key: _joined(key, part, whole, theirs, ours))
                continue
            link(file, folder / file.name)
    if index is not None and index.suffix == ".json":
        shutil.copyfile(index, folder / index.name)


def _within(file: Path, changed: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    if not changed:
        return {}
    if file.suffix != ".safetensors":
        raise InputError(
            f"{file}: no safetensors file, in which the weights of a vision part could be replaced; save the whole "
            "model with transformers, and export the vision part with that as its source."
        )
    return {name: changed[name] for name in safetensors_header(file) if name in changed}


def _joined(
    key: str,
    part: Checkpoint,
    whole: Checkpoint,
    theirs: "Callable[[str], Tensor]",
    ours: "Callable[[str], Tensor]",
) -> "Tensor":
    """A tensor of the whole's file with what the part has of it: all, or some of its rows."""
    pieces = {name: piece for name, piece in whole.slices.items() if piece.key == key}
    if list(pieces.values()) == [TensorSlice(key)]:
        (name,) = pieces
        return part.slices[name].cut(ours(part.slices[name].key))
    found = theirs(key).clone()
    for name, piece in pieces.items():
        value = part.slices[name].cut(ours(part.slices[name].key))
        (found if piece.rows is None else found[slice(*piece.rows)]).copy_(value.T if piece.turned else value)
    return found
