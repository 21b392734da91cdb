"""Position tables for another image size."""

import torch.nn.functional as F
from torch import Tensor, cat

from pumer_convert.errors import InputError


def resize_table(
    table: Tensor, old: tuple[int, int], new: tuple[int, int], *, mode: str, align_corners: bool, first: int = 1
) -> Tensor:
    """The table [first + rows * columns, C] of an `old` grid (rows, columns) for a `new` one; the `first` rows stay: 1
    for CLS. The table as it is when the grid is the same. Raises InputError for a table of another grid than `old`."""
    if table.shape[0] != old[0] * old[1] + first:
        raise InputError(
            f"the table of positions has {table.shape[0]} rows, but by image_size and patch_size it is one of "
            f"{old[0]}x{old[1]} patches{' and CLS' if first else ''}; the weights do not fit the config."
        )
    if old == new:
        return table
    places = table[first:].double().T.reshape(1, -1, *old)
    resized = F.interpolate(places, size=new, mode=mode, align_corners=align_corners)
    return cat([table[:first], resized[0].flatten(1).T.to(table.dtype)])
