"""What a preprocessor_config.json means for pictures."""

from collections.abc import Mapping
from typing import Any

from pumer_convert.data.pixels import ImageSettings
from pumer_convert.errors import InputError

FITS = ("squash", "crop")


def image_settings(values: Mapping[str, Any], size: tuple[int, int], fit: str | None = None) -> ImageSettings:
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
    return ImageSettings(
        height=size[0],
        width=size[1],
        fit=fit,
        shorter=shorter,
        filter=int(values.get("resample", 3)),
        scale=float(values.get("rescale_factor", 1 / 255)) if values.get("do_rescale", True) else 1.0,
        mean=_channels(values.get("image_mean", 0.5)) if normal else (0.0, 0.0, 0.0),
        std=_channels(values.get("image_std", 0.5)) if normal else (1.0, 1.0, 1.0),
    )


def _channels(value: Any) -> tuple[float, ...]:
    values = [float(v) for v in value] if isinstance(value, list | tuple) else [float(value)]
    if len(values) not in (1, 3):
        raise InputError(f"image_mean and image_std have a number per channel, 3 in all, not {len(values)}.")
    return tuple(values * 3 if len(values) == 1 else values)
