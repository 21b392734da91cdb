"""A picture as the tiles that a model takes of it: the arithmetic of transformers' PIL image processors."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pumer_convert.image_processor.pixels import MOST, ImageSettings, normalised, on_white, resize, to_pixels


def to_tiles(image: Image.Image, settings: ImageSettings) -> list[NDArray[np.float32]]:
    """The tiles of a picture, each float32 [3, H, W] of `settings.size`; of settings without `tiles` the one picture.

    The picture is resized to whole tiles, keeping the shape as well as those can, cut row by row, and stands whole
    behind its tiles, squashed to one; one that needs no more than one tile is that alone. With `pinpoints` it stands
    whole before them, and they are cut out of it on black. Raises ValueError for a picture that is too thin.
    """
    if not settings.tiles or settings.size is None:
        return [to_pixels(image, settings)]
    image = on_white(image, settings)
    side = settings.size[0]
    if settings.pinpoints:
        parts = [resize(image, settings.size, settings), *_cut(_padded(image, settings), side)]
    else:
        image = resize(image, settings.before(image.height, image.width), settings)
        image = resize(image, _whole(image.height, image.width, side), settings)
        parts = _cut(image, side)
        if len(parts) > 1:
            parts.append(resize(image, settings.size, settings))
    return [normalised(part, settings) for part in parts]


def _cut(image: Image.Image, side: int) -> list[Image.Image]:
    """Squares of a picture, row by row."""
    corners = [(x, y) for y in range(0, image.height, side) for x in range(0, image.width, side)]
    return [image.crop((x, y, x + side, y + side)) for x, y in corners]


def _padded(image: Image.Image, settings: ImageSettings) -> Image.Image:
    """The picture on black, in its middle, of the size among the `pinpoints` at which most of its pixels are left, and
    of such the one that wastes least."""
    height, width = image.height, image.width

    def fits(pin: tuple[int, int]) -> tuple[int, int]:
        scale = min(pin[1] / width, pin[0] / height)
        left = min(int(width * scale) * int(height * scale), width * height)
        return left, left - pin[0] * pin[1]

    tall, wide = max(settings.pinpoints, key=fits)
    if wide / width < tall / height:
        new = min(math.ceil(height * (wide / width)), tall), wide
    else:
        new = tall, min(math.ceil(width * (tall / height)), wide)
    canvas = Image.new("RGB", (wide, tall))
    canvas.paste(resize(image, new, settings), ((wide - new[1]) // 2, (tall - new[0]) // 2))
    return canvas


def _whole(height: int, width: int, side: int) -> tuple[int, int]:
    """The (height, width) of whole tiles. Raises ValueError where there is none."""
    share = width / height
    given = height, width
    if width >= height:
        width = math.ceil(width / side) * side
        height = math.ceil(int(width / share) / side) * side
    else:
        height = math.ceil(height / side) * side
        width = math.ceil(int(height * share) / side) * side
    if min(height, width) < 1 or height * width > MOST:
        raise ValueError(f"{given[1]}x{given[0]} pixels are too thin, they would be resized to {width}x{height}")
    return height, width
