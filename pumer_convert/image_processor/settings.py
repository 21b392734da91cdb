"""What the files of a checkpoint say of pictures: one typed view of a processor's values."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pumer_convert.errors import InputError, nearest
from pumer_convert.image_processor.pixels import ImageSettings
from pumer_convert.models.values import BRIDGETOWER_PROGRAM, WHOLE

FITS = ("squash", "crop")
_HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
_STEPS = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255}
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
_CROPPED: dict[str, Any] = {
    **_STEPS,
    "size": {"shortest_edge": 224},
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "resample": 3,
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
    "do_convert_rgb": True,
}
_TILED: dict[str, Any] = {
    **_STEPS,
    **_HALF,
    "size": {"longest_edge": 1456},
    "default_to_square": True,
    "max_image_size": {"longest_edge": 364},
    "do_image_splitting": True,
    "resample": 1,
    "do_convert_rgb": True,
}
_STEPPED = tuple(range(384, 2305, 384))
CLASSES: dict[str, dict[str, Any]] = {
    "Vilt": {**_STEPS, **_HALF, "size": {"shortest_edge": 384}, "size_divisor": 32, "resample": 3},
    "CLIP": _CROPPED,
    "Bit": _CROPPED,
    "Llava": {**_CROPPED, "do_pad": False},
    "BridgeTower": {
        **_STEPS,
        "size": {"shortest_edge": 288},
        "size_divisor": 32,
        "do_center_crop": True,
        "crop_size": {"shortest_edge": 288},
        "resample": 3,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
    },
    "ViT": {**_STEPS, **_HALF, "size": {"height": 224, "width": 224}, "default_to_square": True, "resample": 2},
    "Siglip": {**_STEPS, **_HALF, "size": {"height": 224, "width": 224}, "resample": 3, "do_convert_rgb": True},
    "Gemma3": {
        **_STEPS,
        **_HALF,
        "size": {"height": 224, "width": 224},
        "default_to_square": True,
        "resample": 2,
        "do_convert_rgb": True,
    },
    "GotOcr2": {
        **_STEPS,
        "size": {"height": 384, "width": 384},
        "default_to_square": True,
        "resample": 3,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "do_convert_rgb": True,
    },
    "LlavaOnevision": {
        **_STEPS,
        "size": {"height": 384, "width": 384},
        "default_to_square": False,
        "image_grid_pinpoints": [[height, width] for height in _STEPPED for width in _STEPPED],
        "resample": 3,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "do_convert_rgb": True,
    },
    "Idefics3": _TILED,
    "SmolVLM": _TILED,
}
"""The processors that are known, and what transformers' classes of these names take for keys that are absent."""
_KIND = re.compile(rf"({'|'.join(CLASSES)})(?:ImageProcessor(?:Fast|Pil)?|FeatureExtractor)")
_READ = {
    *("do_resize", "size", "default_to_square", "size_divisor", "resample", "do_center_crop", "crop_size"),
    *("crop_rounding", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std", "pad_size"),
    "do_convert_rgb",
}
_HARMLESS = {
    # Who wrote the file, and for which class.
    *("image_processor_type", "feature_extractor_type", "processor_class", "auto_map", "transformers_version"),
    *("_valid_processor_keys", "_valid_kwargs_names", "_processor_class", "_name_or_path", "name_or_path"),
    *("_commit_hash", "_auto_class", "model_input_names", "use_fast", "backend", "is_fast"),
    # A batch is padded as the model needs it (LLaVA's class pads each to a square).
    *("do_pad", "pad_and_return_pixel_mask"),
    # Of the call: where it runs, and in which kind of array and order of axes its result comes.
    *("device", "return_tensors", "data_format", "input_data_format", "disable_grouping"),
    # Of models with image tokens among the words, and of label maps.
    *("image_seq_length", "do_reduce_labels", "reduce_labels"),
}
_PANNED = ("pan_and_scan_min_crop_size", "pan_and_scan_max_num_crops", "pan_and_scan_min_ratio_to_activate")
_CUT = ("max_image_size", "do_image_splitting", "return_row_col_info", "video_sampling")
_OF_KIND = {
    "BridgeTower": BRIDGETOWER_PROGRAM,
    "Gemma3": _PANNED,
    "GotOcr2": ("crop_to_patches", "min_patches", "max_patches"),
    "LlavaOnevision": ("image_grid_pinpoints",),
    "Idefics3": _CUT,
    "SmolVLM": _CUT,
}
"""What else stands in the files of a kind: of BridgeTower no class reads it, of others only with do_pan_and_scan or
crop_to_patches, which are refused; of those that cut pictures into tiles, how."""
_FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}


def image_settings(values: Mapping[str, Any], default_class: str) -> ImageSettings:
    """The settings that a processor's values mean, as transformers understands them.

    `values` are those of preprocessor_config.json or of "image_processor" in processor_config.json; `default_class`
    is the class for values that name none, such as "ViltImageProcessor". Keys that are absent have the defaults of
    their class; a null is transformers' None: a step is not done, a number that a step needs is missing. Raises
    InputError, naming the key, for a class or key that is not known here and for values that make no sense.
    """
    return _View(values, default_class).settings()


def at_size(settings: ImageSettings, size: tuple[int, int], fit: str | None = None) -> ImageSettings:
    """The settings for a model that takes pictures of one `size` (height, width) alone; `fit` overrules theirs.

    Pictures that would keep their shape are squashed: the stretch is what the published PuMer checkpoints were
    trained with, a crop would cut away what the text may ask about. A crop of another size than the processor's
    keeps as much of the picture as that can hold. Raises InputError for a `fit` that there is not.
    """
    if fit is not None and fit not in FITS:
        raise InputError(f"a picture cannot be made to fit by '{fit}'; allowed: {', '.join(FITS)}.")
    fit = fit or ("crop" if settings.fit == "crop" else "squash")
    if (fit, size) == (settings.fit, settings.size):
        return settings
    if settings.tiles:
        raise InputError(f"the processor cuts pictures into square tiles of one size; {settings.uncut}.")
    plain = replace(settings, fit=fit, size=size, shorter=None, longer=None, divisor=None, stretched=None, longest=None)
    return replace(plain, covers=fit == "crop")


class _View:
    """A processor's values with the defaults of its class."""

    def __init__(self, values: Mapping[str, Any], default_class: str) -> None:
        named = values.get("image_processor_type") or values.get("feature_extractor_type") or default_class
        match = _KIND.fullmatch(str(named))
        if match is None:
            known = ", ".join(f"{kind}ImageProcessor" for kind in CLASSES)
            raise InputError(f"the processor's file is of a '{named}', which is not read here; known are {known}.")
        self.kind = match[1]
        keys = {*_READ, *_HARMLESS, *_OF_KIND.get(self.kind, ())}
        for key, value in values.items():
            # What is null or false asks for nothing.
            if key not in keys and value is not None and value is not False:
                raise InputError(f"the processor's file says {key!r}, which is not understood.{nearest(key, _READ)}")
        self.values = {**CLASSES[self.kind], **values}

    def settings(self) -> ImageSettings:
        scale = self._number("rescale_factor") if self._does("do_rescale") else 1.0
        normal = self._does("do_normalize")
        mean = self._channels("image_mean") if normal else (0.0, 0.0, 0.0)
        std = self._channels("image_std") if normal else (1.0, 1.0, 1.0)
        if 0 in std:
            raise self._bad("image_std", "numbers other than 0")
        # Pictures are RGB already; the classes that make them so lay them on white.
        made = ImageSettings("shape", scale=scale, mean=mean, std=std, on_white=self._does("do_convert_rgb"))
        if self.kind == "Llava" and self._does("do_pad"):
            red, green, blue = (int(255 * value) for value in self._channels("image_mean"))
            made = replace(made, padded=(red, green, blue))
        if self._does("do_resize"):
            made = self._resized(replace(made, filter=self._filter()))
        crop = self._sides("crop_size", square=True) if self._does("do_center_crop") else None
        if self._does("crop_to_patches") and self.values.get("max_patches", 12) != 1:
            raise InputError(
                "the processor's file says 'crop_to_patches', which cuts a picture into tiles, and here a picture is "
                "one; say false there, and give tiles as pictures of their own."
            )
        if self.kind in ("Vilt", "Gemma3", "GotOcr2"):
            return made  # their classes in transformers ask for a crop_size and do not crop
        if "max_image_size" in CLASSES[self.kind]:
            return self._tiled(made)  # likewise
        if "image_grid_pinpoints" in CLASSES[self.kind]:
            return self._pinned(made, crop)
        if self._does("do_pad") and self.values.get("pad_size") is not None:
            raise InputError("the processor's file says 'pad_size', which is not understood.")
        if crop is None:
            return made
        if self.kind == "BridgeTower":
            # Its class in transformers knows a crop by its shortest_edge alone, and cuts out a square.
            if not isinstance(crop, dict) or "shortest_edge" not in crop:
                raise self._bad("crop_size", "a shortest_edge")
            crop = crop["shortest_edge"], crop["shortest_edge"]
        if not isinstance(crop, tuple):
            raise self._bad("crop_size", "a height and a width")
        rounded = self.values.get("crop_rounding") == "half-even"
        return replace(made, fit="crop", size=crop, stretched=made.size, rounded=rounded)

    def _tiled(self, made: ImageSettings) -> ImageSettings:
        tile = self._sides("max_image_size", square=False)
        if not isinstance(tile, dict) or "longest_edge" not in tile:
            raise self._bad("max_image_size", "a longest_edge")
        side, cuts = tile["longest_edge"], self._does("do_image_splitting")
        return replace(made, fit="squash", size=(side, side), tiles=cuts, filter=self._filter())

    def _pinned(self, made: ImageSettings, crop: object) -> ImageSettings:
        size, given = self._sides("size", square=False), self.values.get("image_grid_pinpoints")
        if not isinstance(size, tuple) or size[0] != size[1] or not self._does("do_resize"):
            raise self._bad("size", "an equal height and width, with do_resize")
        if crop is not None:
            raise self._bad("do_center_crop", "false")
        if self.values.get("crop_size") is not None and self._sides("crop_size", square=True) != size:
            raise self._bad("crop_size", "the size")  # its class cuts tiles by it
        if not isinstance(given, list) or not given or not all(isinstance(one, list | tuple) for one in given):
            raise self._bad("image_grid_pinpoints", "a list of heights and widths")
        pins = tuple(tuple(self._whole("image_grid_pinpoints", side) for side in one) for one in given)
        if any(len(one) != 2 or one[0] % size[0] or one[1] % size[1] for one in pins):
            raise self._bad("image_grid_pinpoints", "heights and widths that are multiples of size")
        made = replace(made, fit="squash", size=size, tiles=True, filter=self._filter())
        return replace(made, pinpoints=tuple((one[0], one[1]) for one in pins))

    def _resized(self, made: ImageSettings) -> ImageSettings:
        size = self._sides("size", square=self._does("default_to_square"))
        if "size_divisor" in CLASSES[self.kind]:
            if not isinstance(size, dict) or size.get("shortest_edge") is None:
                raise self._bad("size", "a shortest_edge")
            shorter = size["shortest_edge"]
            # These classes go by this share even where the file has a longest_edge.
            longer, divisor = int(1333 / 800 * shorter), self._whole("size_divisor", self.values.get("size_divisor"))
            if shorter < divisor:
                raise self._bad("size", f"a shortest_edge of {divisor} or more, the size_divisor")
            return replace(made, shorter=shorter, longer=longer, divisor=divisor)
        if "max_image_size" in CLASSES[self.kind]:
            if isinstance(size, tuple):
                return replace(made, stretched=size)
            if "longest_edge" not in size:
                raise self._bad("size", "a longest_edge, or a height and a width")
            return replace(made, longest=size["longest_edge"])
        if isinstance(size, tuple):
            return replace(made, fit="squash", size=size)
        if size.get("shortest_edge") is None:
            raise self._bad("size", "a shortest_edge, or a height and a width")
        return replace(made, shorter=size["shortest_edge"], longer=size.get("longest_edge"))

    def _sides(self, key: str, square: bool) -> tuple[int, int] | dict[str, int]:
        """(height, width), or the edges that are given."""
        value = self.values.get(key)
        if isinstance(value, list | tuple) and len(value) == 2:
            return self._whole(key, value[0]), self._whole(key, value[1])
        if not isinstance(value, Mapping):
            side = self._whole(key, value)
            return (side, side) if square else {"shortest_edge": side}
        given = {str(name): self._whole(key, side) for name, side in value.items() if side is not None}
        if set(given) == {"height", "width"}:
            return given["height"], given["width"]
        if not given or not set(given) <= {"shortest_edge", "longest_edge"}:
            raise self._bad(key, "a number, a shortest_edge, or a height and a width")
        return given

    def _filter(self) -> int:
        value = self.values["resample"]
        if isinstance(value, str):
            value = _FILTERS.get(value.lower().removeprefix("pilimageresampling."))
        if isinstance(value, bool) or value not in _FILTERS.values():
            raise self._bad("resample", f"0 to 5 or one of {', '.join(_FILTERS)}")
        return int(value)

    def _does(self, key: str) -> bool:
        value = self.values.get(key)
        if value not in (None, True, False):
            raise self._bad(key, "true or false")
        return bool(value)

    def _whole(self, key: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= WHOLE or value % 1:
            raise self._bad(key, f"whole numbers from 1 to {WHOLE}")
        return int(value)

    def _number(self, key: str) -> float:
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self._bad(key, "a number")
        return float(value)

    def _channels(self, key: str) -> tuple[float, ...]:
        value = self.values.get(key)
        parts = value if isinstance(value, list | tuple) else [value]
        found = [float(p) for p in parts if isinstance(p, int | float) and not isinstance(p, bool) and math.isfinite(p)]
        if len(found) != len(parts):
            raise self._bad(key, "numbers")
        if len(found) not in (1, 3):
            raise InputError(f"image_mean and image_std have a number per channel, 3 in all, not {len(found)}.")
        return tuple(found * 3 if len(found) == 1 else found)

    def _bad(self, key: str, wanted: str) -> InputError:
        return InputError(f"the processor's file has {key} {self.values.get(key)!r}; it has to be {wanted}.")
