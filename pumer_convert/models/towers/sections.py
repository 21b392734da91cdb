"""The sections of a config for a tower of pictures and one of texts, as CLIP and SigLIP have them."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol

from pumer_convert.models.spec import grid
from pumer_convert.models.towers.settings import EncoderSettings
from pumer_convert.models.values import GENERAL, check_keys, read_values, square, wrong

DRAWN = frozenset(("initializer_factor", "logit_scale_init_value"))
"""Keys that transformers reads when it draws weights, and no other time."""


class PictureSettings(EncoderSettings, Protocol):
    """What a tower of pictures is built from; `image_size` S or [H, W]."""

    @property
    def image_size(self) -> int | list[int]: ...
    @property
    def patch_size(self) -> int: ...
    @property
    def num_channels(self) -> int: ...


def section(config: Mapping[str, Any], key: str, kind: str, where: object) -> dict[str, Any]:
    """The values under a key, {} without it. Raises InputError for what is no object, and for one of a model_type other
    than `kind`."""
    given = config.get(key)
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise wrong(where, key, given, "it has to be an object")
    told = given.get("model_type")
    if told not in (None, "", kind.split("_")[0], kind):
        raise wrong(where, f"{key}.model_type", told, f"it has to be {kind}")
    return dict(given)


def tower_values(cls: type, values: Mapping[str, Any], where: object, prefix: str) -> dict[str, Any]:
    """The values of a section by the rules of a settings class; messages call its keys by this `prefix`. Raises
    InputError for a key that is not known, a value that is not allowed, and heads that do not divide the width."""
    check_keys(values, {f.name for f in fields(cls)} | GENERAL | DRAWN, where, prefix)
    if "patch_size" in values:
        values = {**values, "patch_size": square(values, "patch_size", 1, where)}
    found = read_values(cls, values, where, prefix)
    if found["hidden_size"] % found["num_attention_heads"]:
        why = f"hidden_size, {found['hidden_size']}, is no multiple of it"
        raise wrong(where, f"{prefix}num_attention_heads", found["num_attention_heads"], why)
    return found


def check_pictures(settings: PictureSettings, where: object, prefix: str) -> None:
    """Raises InputError for pictures of other than 3 channels, and for those without a whole patch."""
    if settings.num_channels != 3:
        raise wrong(where, f"{prefix}num_channels", settings.num_channels, "pictures are read with 3 channels alone")
    if 0 in grid(settings.image_size, settings.patch_size):
        raise wrong(where, f"{prefix}patch_size", settings.patch_size, f"image_size is {settings.image_size}")
