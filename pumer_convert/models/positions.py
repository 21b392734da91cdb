"""Position tables for another image size."""

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, cat

from pumer_convert.errors import InputError

if TYPE_CHECKING:
    from pumer_convert.models.family import Interpolation


def resize_table(table: Tensor, old: tuple[int, int], new: tuple[int, int], how: "Interpolation") -> Tensor:
    """The table [..., first + rows * columns, C] of an `old` grid (rows, columns) for a `new` one. The table as it is
    when the grid is the same. Raises InputError for a table of another grid than `old`."""
    first, (*front, count, c) = how.first, table.shape
    if count != old[0] * old[1] + first:
        raise InputError(
            f"the table of positions has {count} rows, but by image_size and patch_size it is one of "
            f"{old[0]}x{old[1]} patches{' and CLS' if first else ''}; the weights do not fit the config."
        )
    if old == new:
        return table
    rows = table.reshape(count, c)
    places = rows[first:].double().T.reshape(1, -1, *old)
    resized = F.interpolate(places, size=new, mode=how.mode, align_corners=how.align_corners, antialias=how.antialias)
    return cat([rows[:first], resized[0].flatten(1).T.to(table.dtype)]).reshape(*front, -1, c)
