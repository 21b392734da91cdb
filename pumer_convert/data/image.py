"""A picture as the model wants it: the arithmetic of transformers' PIL image processors, with numpy and PIL alone."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pumer_convert.errors import InputError

FITS = ("squash", "crop")


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

    @classmethod
    def of(cls, values: Mapping[str, Any], size: tuple[int, int], fit: str | None = None) -> "ImageSettings":
        """The settings of a preprocessor_config.json for pixels of `size` (height, width); `fit` overrules it.

        A processor that crops crops here. One that neither crops nor squashes is ViLT's, which keeps the shape of
        every picture and pads the batch. Our models take one size, and there the picture is squashed: cropping would
        cut away a quarter of a 4:3 photograph and with it what the text may ask about, the stretch is what the
        published PuMer checkpoints were trained with, and a square picture comes out the same either way.
        Raises InputError for values that make no sense.
        """
        crop = values.get("crop_size", {})
        crop = (crop.get("height"), crop.get("width")) if isinstance(crop, Mapping) else (crop, crop)
        wanted = values.get("size", {})
        edge = wanted.get("shortest_edge") if isinstance(wanted, Mapping) else wanted
        fit = fit or ("crop" if values.get("do_center_crop") and edge else "squash")
        if fit not in FITS:
            raise InputError(f"a picture cannot be made to fit by '{fit}'; allowed: {', '.join(FITS)}.")
        # A shorter side that belongs to another crop than the model's size would cut out another share of the picture.
        shorter = int(edge) if fit == "crop" and edge and tuple(crop) == size else None
        normal = values.get("do_normalize", True)
        return cls(
            height=size[0],
            width=size[1],
            fit=fit,
            shorter=shorter,
            filter=int(values.get("resample", 3)),
            scale=float(values.get("rescale_factor", 1 / 255)) if values.get("do_rescale", True) else 1.0,
            mean=_channels(values.get("image_mean", 0.5)) if normal else (0.0, 0.0, 0.0),
            std=_channels(values.get("image_std", 0.5)) if normal else (1.0, 1.0, 1.0),
        )


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


def _channels(value: Any) -> tuple[float, ...]:
    values = [float(v) for v in value] if isinstance(value, list | tuple) else [float(value)]
    if len(values) not in (1, 3):
        raise InputError(f"image_mean and image_std have a number per channel, 3 in all, not {len(values)}.")
    return tuple(values * 3 if len(values) == 1 else values)
