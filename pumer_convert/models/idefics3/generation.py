"""Idefics3 with a reduced vision part as a class of transformers, which loads the folders of the layout hf."""

from collections.abc import Mapping
from typing import Any

from transformers import Idefics3ForConditionalGeneration, Idefics3Model

from pumer_convert.models.towers.tiles_generation import ReducedTiles, counted
from pumer_convert.models.towers.vision_folders import LANGUAGE as LANGUAGE
from pumer_convert.models.towers.vision_generation import ReducedForGeneration


class ReducedIdefics3Model(ReducedTiles, Idefics3Model):  # type: ignore[no-untyped-call]
    """See `ReducedVision`."""


class ReducedIdefics3(ReducedForGeneration, Idefics3ForConditionalGeneration):  # type: ignore[no-untyped-call]
    """The same with its language model's head."""

    reduced = ReducedIdefics3Model


MODEL = ReducedIdefics3


def count(config: Mapping[str, Any], tokens: int) -> Mapping[str, dict[str, Any]]:
    """See `counted`."""
    return counted("Idefics3Processor", tokens)
