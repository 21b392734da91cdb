"""Pictures of any shape as packed patches, with numpy alone.

Nothing of this project is imported here: `export --triton` copies the file into what it writes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def cut(pixels: NDArray[Any], patch: int) -> NDArray[Any]:
    """Pixels [..., 3, H, W] -> patches [..., rows * columns, 3 * patch * patch], row by row; each holds its channels
    one after the other, as a convolution's weights do. What no whole patch covers, on the right and below, is left
    out, as by a convolution."""
    *front, channels, height, width = pixels.shape
    rows, columns = height // patch, width // patch
    whole = pixels[..., : rows * patch, : columns * patch].reshape(-1, channels, rows, patch, columns, patch)
    return whole.transpose(0, 2, 4, 1, 3, 5).reshape(*front, rows * columns, channels * patch * patch)


def pack(
    pictures: Sequence[NDArray[np.float32]], patch: int, least: int = 1
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Pictures [3, H, W], each of its own shape -> patches [B, N, 3 * patch * patch], N those of the largest (`least`
    or more), zeros behind a smaller one's own; and how many rows and columns each has, int64 [B, 2]."""
    parts = [cut(picture, patch) for picture in pictures]
    grid = np.array([[side // patch for side in picture.shape[-2:]] for picture in pictures], np.int64)
    packed = np.zeros((len(parts), max(least, *map(len, parts)), parts[0].shape[-1]), np.float32)
    for row, part in zip(packed, parts, strict=True):
        row[: len(part)] = part
    return packed, grid
