"""SmolVLM with a reduced vision part as a class of transformers, which loads the folders of the layout hf."""

from collections.abc import Mapping
from typing import Any

from transformers import SmolVLMForConditionalGeneration, SmolVLMModel

from pumer_convert.models.towers.tiles_generation import ReducedTiles, counted
from pumer_convert.models.towers.vision_folders import LANGUAGE as LANGUAGE
from pumer_convert.models.towers.vision_generation import ReducedForGeneration


class ReducedSmolVLMModel(ReducedTiles, SmolVLMModel):  # type: ignore[no-untyped-call]
    """See `ReducedVision`."""


class ReducedSmolVLM(ReducedForGeneration, SmolVLMForConditionalGeneration):  # type: ignore[no-untyped-call]
    """The same with its language model's head."""

    reduced = ReducedSmolVLMModel


MODEL = ReducedSmolVLM


def count(config: Mapping[str, Any], tokens: int) -> Mapping[str, dict[str, Any]]:
    """See `counted`."""
    return counted("SmolVLMProcessor", tokens)
