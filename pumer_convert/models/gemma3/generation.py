"""Gemma 3 with a reduced vision part as a class of transformers, which loads the folders of the layout hf."""

from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import (
    AutoModelForImageTextToText,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3Model,
)

from pumer_convert.models.gemma3.network import Gemma3
from pumer_convert.models.towers.vision_folders import LANGUAGE as LANGUAGE
from pumer_convert.models.towers.vision_generation import OriginalPositions, ReducedVision, named_like
from pumer_convert.weights import NESTED_PROCESSOR


class ReducedGemma3Model(ReducedVision, Gemma3Model):  # type: ignore[no-untyped-call]
    """See `ReducedVision`."""

    network = Gemma3


class ReducedGemma3(OriginalPositions, Gemma3ForConditionalGeneration):  # type: ignore[no-untyped-call]
    """The same with its language model's head."""

    def __init__(self, config: Gemma3Config) -> None:
        super(Gemma3ForConditionalGeneration, self).__init__(config)
        self.model = ReducedGemma3Model(config)
        language: Any = config.text_config
        self.lm_head = nn.Linear(language.hidden_size, language.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]


MODEL = ReducedGemma3
named_like(ReducedGemma3, "gemma3")
named_like(ReducedGemma3Model, "Gemma3Model")


def count(config: Mapping[str, Any], tokens: int) -> dict[str, dict[str, Any]]:
    """Where files of a checkpoint say that a picture has that many `tokens`: name -> the keys that do."""
    return {NESTED_PROCESSOR: {"processor_class": "Gemma3Processor", "image_seq_length": tokens}}


def register() -> None:
    """From now on transformers' AutoModelForImageTextToText loads every Gemma 3 as this class."""
    AutoModelForImageTextToText.register(Gemma3Config, ReducedGemma3, exist_ok=True)
