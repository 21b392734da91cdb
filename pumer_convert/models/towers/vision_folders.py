"""transformers' folders of decoder VLMs as maps to the names of their vision part."""

from collections.abc import Mapping
from typing import Any

from pumer_convert.models.towers.folders import saved
from pumer_convert.models.towers.vision_part import PROJECTOR, TOWER, VisionPart
from pumer_convert.weights import Checkpoint, RawCheckpoint, TensorSlice

LANGUAGE = ("language_model.", "text_model.", "lm_head.")
_WHOLE = (*LANGUAGE, "image_newline")
"""How names begin of what is not the vision part's: the newline stands between tiles that are packed behind it."""
_OWN = ((f"{TOWER}vision_model.", TOWER), ("vision_model.", TOWER), ("connector.", PROJECTOR))
"""How names of towers and projectors begin in files and modules of transformers -> how they do here."""
NOTE = "This is the vision part alone, tower and projector; the language model stays in the checkpoint that it is of."


def part_of(raw: RawCheckpoint, family: str, config: Mapping[str, Any], settings: VisionPart) -> Checkpoint:
    """The vision part of a checkpoint with these settings, `config` its checked one."""
    slices: dict[str, TensorSlice] = {}
    ignored: list[str] = []
    for name in raw.source.names():
        if name.startswith(_WHOLE):
            continue
        own = own_name(name)
        if own.startswith(TOWER) and _unused(own.removeprefix(TOWER), settings):
            ignored.append(name)
        else:
            slices[own] = TensorSlice(name)
    return saved(raw, family, dict(config), slices, ignored=tuple(ignored), notes=(NOTE,))


def own_name(name: str) -> str:
    """The name here of a weight of a tower or a projector, of transformers' name; others stay."""
    for begins, here in _OWN:
        if name.startswith(begins):
            return here + name.removeprefix(begins)
    return name


def _unused(name: str, settings: VisionPart) -> bool:
    """Whether a weight of the tower stands behind all that the projector takes."""
    names = settings.names
    if name.startswith(names.norm):
        return not settings.normed
    if name.startswith(names.idle):
        return True
    number = name.removeprefix(names.blocks).partition(".")[0]
    return name.startswith(names.blocks) and number.isdecimal() and int(number) >= settings.blocks
