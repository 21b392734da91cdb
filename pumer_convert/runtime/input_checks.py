"""What is checked of the arrays that a runtime is called with: functions for numpy arrays and torch tensors alike.

Beyond a table, ONNX Runtime counts a negative id from its end and a GPU reads whatever lies there: an answer would
come, and be wrong. So the values are looked at as well as the shapes, before a runtime sees them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pumer_convert.errors import InputError
from pumer_convert.models.inputs import IDS, MASK, PATCHES, SHORTEST, PictureInput, Port, TextInput

Array = Any
"""A numpy array or a torch tensor."""


def all_numpy(given: Mapping[str, Array]) -> bool:
    """Whether the inputs are numpy arrays, else torch tensors. Raises InputError for a mixture and for other kinds."""
    if all(isinstance(value, np.ndarray) for value in given.values()):
        return True
    if all(type(value).__module__.startswith("torch") for value in given.values()):
        return False
    kinds = ", ".join(sorted({type(value).__name__ for value in given.values()}))
    raise InputError(f"inputs are numpy arrays or torch tensors, all of one kind, not {kinds}.")


def plain(value: Array) -> Array:
    """A numpy array as every library takes it: in one piece, its axes in order (a mirrored one, as `[..., ::-1]` gives
    it, is not), and writable, for torch warns of others. Tensors stay."""
    return np.require(value, requirements=("C", "W")) if isinstance(value, np.ndarray) else value


def check_dtypes(given: Mapping[str, Array], wanted: Mapping[str, str]) -> None:
    """Raises InputError for the first input of another type, or of a foreign byte order."""
    for name, dtype in wanted.items():
        found = str(given[name].dtype).removeprefix("torch.")
        if found != dtype:
            raise InputError(f"{name} is {found}; it has to be {dtype}.")


def check_text(given: Mapping[str, Array], limits: TextInput) -> None:
    """Raises InputError for ids and a mask that are not both int64 [batch, text], for ids that the model's table has
    not, for texts that are too long or too short or have no end where the model asks for one, and for a mask that is
    not ones and then zeros in every row (zeros and then ones, where texts are padded on the left)."""
    ids = given[IDS]
    shape = tuple(ids.shape)
    mask = given[MASK] if limits.masked else None
    if len(shape) != 2 or 0 in shape or (mask is not None and tuple(mask.shape) != shape):
        names = IDS if mask is None else f"{IDS} and {MASK}"
        found = str(list(shape)) if mask is None else f"{list(shape)} and {list(mask.shape)}"
        raise InputError(f"{names} {'is' if mask is None else 'are both'} [batch, text], not {found}.")
    if limits.length is not None and shape[1] != limits.length:
        raise InputError(f"a text of {shape[1]} tokens does not fit; this model takes {limits.length}, with padding.")
    if shape[1] < SHORTEST or (limits.longest is not None and shape[1] > limits.longest):
        most = f"{SHORTEST} to {limits.longest}" if limits.longest is not None else f"{SHORTEST} or more"
        raise InputError(f"a text of {shape[1]} tokens does not fit; this model takes {most}.")
    values = [ids.min(), ids.max()]
    if mask is not None:
        forward = mask if limits.padding == "right" else flipped(mask)
        values += [mask.min(), mask.max(), (forward[:, 1:] > forward[:, :-1]).any(), (forward[:, 0] == 0).any()]
    least, greatest, *rest = _numbers(*values)
    if least < 0 or (limits.vocabulary is not None and greatest >= limits.vocabulary):
        there = f"0 to {limits.vocabulary - 1}" if limits.vocabulary is not None else "0 or more"
        raise InputError(
            f"input_ids hold {least if least < 0 else greatest}, which is no token of this model; its ids are {there} "
            "(do they come from its own tokenizer?)."
        )
    if limits.end_id is not None and not bool((ids == limits.end_id).any(1).all()):
        raise InputError(
            f"input_ids have a text without the token {limits.end_id}, its end, where this model reads it; cut a long "
            "text before its end."
        )
    if not rest:
        return
    low, high, rises, empty = rest
    if low < 0 or high > 1:
        raise InputError(f"attention_mask holds {low if low < 0 else high}; it is 1 for a token and 0 for padding.")
    if rises or empty:
        first, order = ("begin", "ones, then zeros") if limits.padding == "right" else ("end", "zeros, then ones")
        raise InputError(
            f"attention_mask has a row that does not {first} with its tokens; texts are padded on the {limits.padding} "
            f"here: {order}, and one token or more in every row."
        )


def flipped(mask: Array) -> Array:
    """A mask [B, T] from its end to its beginning."""
    return mask[:, ::-1] if _is_numpy(mask) else mask.flip(1)


def check_names(given: Mapping[str, Array], ports: Sequence[Port]) -> None:
    """Raises InputError unless the inputs are those of the ports."""
    names = [port.name for port in ports]
    wrong = [f"{name} is missing" for name in names if name not in given]
    wrong += [f"there is no {name}" for name in given if name not in names]
    if wrong:
        raise InputError(f"the model takes {', '.join(names)}; {wrong[0]}.")


def check_pictures(given: Mapping[str, Array], pictures: PictureInput, batch: int) -> None:
    """Raises InputError for pixels or patches of a wrong shape, and for a NaN or an infinity among them."""
    sides: dict[int | str, int] = {"batch": batch}
    if pictures.packed:
        sides["patches"] = given[PATCHES].shape[-2] if len(given[PATCHES].shape) > 1 else 0
    for name, wanted in ((port.name, [sides.get(side, side) for side in port.shape]) for port in pictures.ports):
        if list(given[name].shape) != wanted:
            raise InputError(f"{name} has to be {wanted} here, not {list(given[name].shape)}.")
    name = pictures.ports[0].name
    values = given[name]
    with np.errstate(invalid="ignore", over="ignore"):
        total = float(values.sum())
    # The sum is the fastest to tell; only huge numbers make it overflow on their own.
    if not np.isfinite(total) and not bool(np.isfinite(values).all() if _is_numpy(values) else values.isfinite().all()):
        raise InputError(f"{name} hold a NaN or an infinity.")


def check_grid(grid: Array, patches: int, limit: int | None = None) -> None:
    """Raises InputError for rows and columns [..., 2] that are none, or more than the `patches` handed over or than the
    model's `limit`."""
    least, most = _numbers(grid.min(), (grid[..., 0] * grid[..., 1]).max())
    if least < 1 or most > patches:
        raise InputError(f"patch_grid tells rows and columns, from 1 on and of at most {patches} patches here.")
    check_limit(most, limit)


def check_limit(patches: int, limit: int | None) -> None:
    """Raises InputError for a picture of more patches than the model's `limit`, of which it would draw that many."""
    if limit is not None and patches > limit:
        raise InputError(f"a picture has {patches} patches, more than the model's max_image_length ({limit}).")


def _is_numpy(value: Array) -> bool:
    return isinstance(value, np.ndarray)


def _numbers(*values: Array) -> list[int]:
    """Single values of arrays as integers; of tensors all at once, for a GPU is waited for every time it is asked."""
    if isinstance(values[0], np.generic):
        return [int(value) for value in values]
    import torch

    home = values[0].device
    found: list[int] = torch.stack([value.to(home, torch.int64) for value in values]).tolist()
    return found
