"""How the model of a checkpoint takes pictures, by its config and its processor."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.image_processor.pixels import ImageSettings
from pumer_convert.image_processor.settings import at_size, image_settings
from pumer_convert.models.family import family_of
from pumer_convert.models.inputs import PictureInput
from pumer_convert.weights import Checkpoint


def settings_of(
    values: Mapping[str, Any] | None, family: str, image_size: Any = None, fit: str | None = None
) -> ImageSettings:
    """How pictures become pixels by a processor's `values`, None: the defaults of the family's processor.

    `image_size` S scales what comes out in proportion, so that it is S on its shorter side; [H, W] is the one size of
    all pictures, to which those that would keep their shape are squashed. `fit` "squash" or "crop" overrules the
    processor's. Raises InputError for values that make no sense.
    """
    settings = image_settings(values or {}, family_of(family).image_processor)
    if isinstance(image_size, int):
        settings = _scaled(settings, image_size)
    elif image_size is not None:
        height, width = image_size
        settings = at_size(settings, (int(height), int(width)), fit)
    if fit in (None, settings.fit):
        return settings
    side = settings.shorter if settings.size is None else settings.size
    return at_size(settings, (side, side) if isinstance(side, int) else side or (0, 0), fit)


def _scaled(settings: ImageSettings, side: int) -> ImageSettings:
    """The settings with all lengths in the proportion that makes the shorter side of what comes out `side`."""
    old = min(settings.size) if settings.size is not None else settings.shorter
    if old is None:  # pictures as they are, of any size
        return at_size(settings, (side, side))

    def length(value: int | None) -> int | None:
        return None if value is None else round(value * side / old)

    def both(sides: tuple[int, int] | None) -> tuple[int, int] | None:
        return None if sides is None else (round(sides[0] * side / old), round(sides[1] * side / old))

    return replace(
        settings,
        size=both(settings.size),
        shorter=length(settings.shorter),
        # ViLT's share, which it takes of the shorter side and rounds down.
        longer=int(1333 / 800 * side) if settings.divisor is not None else length(settings.longer),
        stretched=both(settings.stretched),
        longest=length(settings.longest),
        pinpoints=tuple((round(tall * side / old), round(wide * side / old)) for tall, wide in settings.pinpoints),
    )


def picture_input(checkpoint: Checkpoint, image_size: Any = None, fit: str | None = None) -> PictureInput | None:
    """How a checkpoint's model takes pictures, None when it takes none; `image_size` and `fit` as in `settings_of`.

    Raises InputError for a processor that the model cannot follow.
    """
    if family_of(checkpoint.family).spec(checkpoint.config).image is None:
        return None
    settings = settings_of(checkpoint.processor, checkpoint.family, image_size, fit)
    return input_of(settings, checkpoint.family, checkpoint.config)


def input_of(settings: ImageSettings, family: str, config: Mapping[str, Any]) -> PictureInput:
    """The same by settings that are read already."""
    module = family_of(family)
    spec = module.spec(config).pictures
    images, patch = spec.images, spec.patch
    if settings.size is not None:
        check_patch(settings, patch)
        return PictureInput.fixed(images, patch, settings.size)
    if not spec.keeps_shape:
        raise InputError(
            f"the processor keeps the shape of every picture, and {family} takes pictures of one size; say do_resize "
            "and do_center_crop in its file, or a size with a height and a width (in the hyper-parameters of an "
            "original .ckpt: val_transform_keys other than pixelbert)."
        )
    side = (settings.shorter or spec.size[0]) // patch
    if side < 1:
        raise InputError(f"pictures of {settings.shorter} pixels have no whole patch of {patch}x{patch}.")
    if (largest := settings.largest()) is None:
        return PictureInput(images, patch, None, 1, side * side, spec.limit, spec.limit)
    module.spec(config, largest)  # a model that does not take so many patches says so here
    short, long = (length // patch for length in largest)
    if images > 1:  # beside another a part of a patch may count, see `together`
        short = min(-(-largest[0] // patch), long)
    return PictureInput(images, patch, None, long, short * short, short * long, spec.limit)


def check_patch(settings: ImageSettings, patch: int) -> None:
    """Raises InputError when pictures of one size have no whole patch. What is beyond the last whole one, on the right
    and below, the model does not see, as in transformers."""
    if settings.size is not None and min(settings.size) < patch:
        height, width = settings.size
        key = "crop_size" if settings.fit == "crop" else "size"
        raise InputError(
            f"the processor's {key} is {height}x{width} pixels, which have no whole patch of {patch}x{patch}."
        )


def squashed(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with a processor that squashes every picture to one size, for one that would keep its shape: to
    the square of its shorter side. Others stay."""
    settings = settings_of(checkpoint.processor, checkpoint.family)
    if settings.size is not None:
        return checkpoint
    side = settings.shorter or family_of(checkpoint.family).spec(checkpoint.config).pictures.size[0]
    return checkpoint.with_processor(
        {
            "image_processor_type": "CLIPImageProcessor",
            "do_resize": True,
            "size": {"height": side, "width": side},
            "resample": settings.filter,
            "do_center_crop": False,
            "do_rescale": True,
            "rescale_factor": settings.scale,
            "do_normalize": True,
            "image_mean": list(settings.mean),
            "image_std": list(settings.std),
            "do_convert_rgb": settings.on_white,
        }
    )


def in_words(checkpoint: Checkpoint, image_size: Any = None) -> str:
    """What becomes of a picture, for a person: "pictures squashed to 384x384"."""
    pictures = picture_input(checkpoint, image_size)
    if pictures is None:
        return "no pictures"
    settings = settings_of(checkpoint.processor, checkpoint.family, image_size)
    if pictures.size is not None:
        height, width = pictures.size
        how = "cut into tiles of" if settings.tiles else "squashed to" if settings.fit == "squash" else "cropped to"
        return f"pictures {how} {height}x{width}"
    if settings.shorter is None:
        return "pictures keep their size"
    most = "" if settings.longer is None else f", the longer {settings.longer} at most"
    patches = (
        "" if pictures.most is None else f" ({pictures.fewest} to {pictures.most} patches, {pictures.usual} square)"
    )
    return f"pictures keep their shape, the shorter side {settings.shorter}{most}{patches}"
