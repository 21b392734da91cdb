"""The pictures of the originals: METER's and ViLT's transforms as the values of an image processor."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pumer_convert.errors import InputError, nearest

_NORMAL = {
    "clip": ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "vit": ([0.5] * 3, [0.5] * 3),
    "pixelbert": ([0.5] * 3, [0.5] * 3),
}
"""The transforms of pictures, by their names in `val_transform_keys`, and their means and deviations."""


def transform(key: str, size: int) -> dict[str, Any]:
    """The processor's values of an original's transform for pictures of `size`.

    "pixelbert" keeps the shape, the longer side at most 1333/800 of the shorter, both multiples of 32. The others
    resize the shorter side, bicubic, and cut out the middle where torchvision does ("crop_rounding", a key of ours).
    """
    if key == "pixelbert":
        common = _common({"shortest_edge": size}, *_NORMAL[key])
        return {"image_processor_type": "ViltImageProcessor", **common, "size_divisor": 32, "do_pad": True}
    return cropped(size, *_NORMAL[key])


def cropped(side: int, mean: Any = None, std: Any = None) -> dict[str, Any]:
    """The processor's values for pictures whose shorter side becomes `side`, bicubic, and whose middle is cut out where
    torchvision does; mean and deviation are CLIP's where they are None."""
    crop = {"do_center_crop": True, "crop_size": {"height": side, "width": side}, "crop_rounding": "half-even"}
    return {"image_processor_type": "CLIPImageProcessor", **_common({"shortest_edge": side}, mean, std), **crop}


def squashed(side: int, mean: Any = None, std: Any = None) -> dict[str, Any]:
    """The same for pictures that become squares."""
    size = {"height": side, "width": side}
    return {"image_processor_type": "CLIPImageProcessor", **_common(size, mean, std), "do_center_crop": False}


def _common(size: Mapping[str, int], mean: Any, std: Any) -> dict[str, Any]:
    return {
        "do_resize": True,
        "size": size,
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": _NORMAL["clip"][0] if mean is None else mean,
        "image_std": _NORMAL["clip"][1] if std is None else std,
        "do_convert_rgb": False,  # transparency is dropped
    }


def original_processor(path: Path, hints: Mapping[str, Any], usual: str, size: int) -> dict[str, Any]:
    """The processor's values that the hyper-parameters of an original .ckpt ask for; `usual` and `size` stand for a
    val_transform_keys and an image_size that they do not have.

    Of several transforms the first is what the originals answer by. Raises InputError for one that is not known, or
    that draws at random.
    """
    keys = hints.get("val_transform_keys") or [usual]
    key = keys if isinstance(keys, str) else keys[0]
    if key not in _NORMAL:
        raise InputError(
            f"{path}: its val_transform_keys ask for the transform '{key}', which is not read here; known are "
            f"{', '.join(_NORMAL)}.{nearest(str(key), _NORMAL)}"
        )
    given = hints.get("image_size") or size
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise InputError(f"{path}: its hyper-parameters have the image_size {given!r}; it has to be a whole number.")
    return transform(key, given)


def original_text(path: Path, hints: Mapping[str, Any], kind: str, positions: int) -> dict[str, int]:
    """What the hyper-parameters of an original .ckpt say of texts, for config.json: "max_text_len", in tokens, if they
    have it. Its text tower is of `kind` ("bert", "roberta") and has `positions` for tokens.

    Raises InputError for the tokenizer of another kind, and for texts longer than the tower takes.
    """
    named = hints.get("tokenizer")
    if isinstance(named, str) and ("roberta" in named.lower()) != (kind == "roberta"):
        raise InputError(
            f"{path}: its hyper-parameters name the tokenizer: '{named}', but its text encoder is a {kind}."
        )
    longest = hints.get("max_text_len")
    if longest is None:
        return {}
    if isinstance(longest, bool) or not isinstance(longest, int) or not 2 <= longest <= positions:
        raise InputError(
            f"{path}: its hyper-parameters have the max_text_len {longest!r}; its text tower takes 2 to {positions}."
        )
    return {"max_text_len": longest}
