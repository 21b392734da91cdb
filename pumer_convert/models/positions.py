"""Position tables for another image size."""

import math

import torch.nn.functional as F
from torch import Tensor, cat


def resize_table(table: Tensor, rows: int, columns: int, *, mode: str, align_corners: bool) -> Tensor:
    """[1 + G * G, C] -> [1 + rows * columns, C]; row 0 (CLS) stays. The table as it is when the grid is the same."""
    side = math.isqrt(table.shape[0] - 1)
    if table.shape[0] == rows * columns + 1 and (side == rows or side * side != rows * columns):
        return table
    square = table[1:].double().T.reshape(1, -1, side, side)
    resized = F.interpolate(square, size=(rows, columns), mode=mode, align_corners=align_corners)
    return cat([table[:1], resized[0].flatten(1).T.to(table.dtype)])
