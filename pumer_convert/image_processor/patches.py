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


def together(pictures: Sequence[NDArray[np.float32]], patch: int) -> list[NDArray[np.float32]]:
    """The pictures [3, H, W] of one example, each with the whole patches that the model sees of it beside the others.

    As in transformers, whose processor fills the pictures of an example up with zeros to the longest sides among them,
    and whose model looks at one pixel for each patch to see whether it is filling: where sides are no whole number of
    patches, a patch that the picture covers in part may count. Alone a picture has its whole patches. Raises ValueError
    when no patch fits.
    """
    height, width = (max(picture.shape[side] for picture in pictures) for side in (1, 2))
    if min(height, width) < patch:
        raise ValueError(f"{width}x{height} pixels have no whole patch of {patch}x{patch}")
    made = []
    for picture in pictures:
        rows, columns = (_seen(own, all_, patch) for own, all_ in zip(picture.shape[1:], (height, width), strict=True))
        missing = [max(0, count * patch - own) for count, own in zip((rows, columns), picture.shape[1:], strict=True)]
        whole = picture[:, : rows * patch, : columns * patch]
        made.append(np.pad(whole, ((0, 0), (0, missing[0]), (0, missing[1]))) if any(missing) else whole)
    return made


def _seen(own: int, all_: int, patch: int) -> int:
    """Patches along a side of `all_` pixels whose looked-at pixel is among the first `own`; in float32, as torch's
    nearest interpolation of the mask."""
    count = all_ // patch
    looked_at = np.floor(np.arange(count, dtype=np.float32) * (np.float32(all_) / np.float32(count)))
    return int((looked_at < own).sum())


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
