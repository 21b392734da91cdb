"""A picture as the model wants it: the arithmetic of transformers' PIL image processors, with numpy and PIL alone.

Nothing of this project is imported here: `export --triton` copies the file into what it writes.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class ImageSettings:
    """How pixels are made, as preprocessor_config.json says it.

    `height`, `width`: the one size the model takes. `fit` "squash" stretches the picture to that size; "crop" resizes
    it until its shorter side is `shorter` (None: just covers the size) and cuts out the centre. `filter` is PIL's
    number of the resampling filter (2 bilinear, 3 bicubic); `scale`, `mean` and `std` make floats of bytes, a channel
    each: (byte * scale - mean) / std.
    """

    height: int
    width: int
    fit: str = "squash"
    shorter: int | None = None
    filter: int = 3
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)


def to_pixels(image: Image.Image, settings: ImageSettings) -> NDArray[np.float32]:
    """The picture as float32 [3, height, width]."""
    image = image.convert("RGB")
    if settings.fit == "squash":
        image = _resize(image, settings.width, settings.height, settings.filter)
    else:
        image = _cover_and_crop(image, settings)
    pixels = np.asarray(image, np.float32).transpose(2, 0, 1) * np.float32(settings.scale)
    mean, std = (np.asarray(v, np.float32)[:, None, None] for v in (settings.mean, settings.std))
    return np.ascontiguousarray((pixels - mean) / std)


def _resize(image: Image.Image, width: int, height: int, resampling: int) -> Image.Image:
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling(resampling))


def _cover_and_crop(image: Image.Image, settings: ImageSettings) -> Image.Image:
    width, height = image.size
    if settings.shorter is not None:
        short, long = sorted(image.size)
        longer = int(settings.shorter * long / short)
        size = (settings.shorter, longer) if width <= height else (longer, settings.shorter)
    else:
        factor = max(settings.width / width, settings.height / height)
        # Rounded down as transformers does, yet never so far that the crop reaches beyond the picture.
        size = (max(math.floor(width * factor), settings.width), max(math.floor(height * factor), settings.height))
    image = _resize(image, *size, settings.filter)
    left, top = (size[0] - settings.width) // 2, (size[1] - settings.height) // 2
    return image.crop((left, top, left + settings.width, top + settings.height))
