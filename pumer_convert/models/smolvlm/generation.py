"""SmolVLM with a reduced vision part as a class of transformers, which loads the folders of the layout hf."""

from collections.abc import Mapping
from typing import Any

from transformers import (
    AutoModelForImageTextToText,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMModel,
)

from pumer_convert.models.towers.tiles_generation import ReducedTiles, counted
from pumer_convert.models.towers.vision_folders import LANGUAGE as LANGUAGE
from pumer_convert.models.towers.vision_generation import OriginalPositions


class ReducedSmolVLMModel(ReducedTiles, SmolVLMModel):  # type: ignore[no-untyped-call]
    """See `ReducedVision`."""


class ReducedSmolVLM(OriginalPositions, SmolVLMForConditionalGeneration):  # type: ignore[no-untyped-call]
    """The same with its language model's head."""

    def __init__(self, config: SmolVLMConfig) -> None:
        super().__init__(config)
        settings = self.model.text_model.generation_config
        self.model = ReducedSmolVLMModel(config)
        self.model.text_model.generation_config = settings
        self.post_init()  # type: ignore[no-untyped-call]


MODEL = ReducedSmolVLM


def count(config: Mapping[str, Any], tokens: int) -> Mapping[str, dict[str, Any]]:
    """See `counted`."""
    return counted("SmolVLMProcessor", tokens)


def register() -> None:
    """From now on transformers' AutoModelForImageTextToText loads every SmolVLM as this class."""
    AutoModelForImageTextToText.register(SmolVLMConfig, ReducedSmolVLM, exist_ok=True)
