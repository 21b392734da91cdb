"""InternVL with a reduced vision part as a class of transformers, which loads the folders of the layout hf."""

from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import AutoModelForImageTextToText, InternVLConfig, InternVLForConditionalGeneration, InternVLModel

from pumer_convert.models.internvl.network import InternVL
from pumer_convert.models.towers.vision_folders import LANGUAGE as LANGUAGE
from pumer_convert.models.towers.vision_generation import OriginalPositions, ReducedVision, named_like
from pumer_convert.weights import NESTED_PROCESSOR


class ReducedInternVLModel(ReducedVision, InternVLModel):  # type: ignore[no-untyped-call]
    """See `ReducedVision`."""

    network = InternVL


class ReducedInternVL(OriginalPositions, InternVLForConditionalGeneration):
    """The same with its language model's head."""

    def __init__(self, config: InternVLConfig) -> None:
        super(InternVLForConditionalGeneration, self).__init__(config)
        self.model = ReducedInternVLModel(config)
        language: Any = config.text_config
        self.lm_head = nn.Linear(language.hidden_size, language.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]


MODEL = ReducedInternVL
named_like(ReducedInternVL, "internvl")
named_like(ReducedInternVLModel, "InternVLModel")


def count(config: Mapping[str, Any], tokens: int) -> dict[str, dict[str, Any]]:
    """Where files of a checkpoint say that a picture, or a tile of one, has that many `tokens`: name -> the keys that
    do."""
    says = {"image_seq_length": tokens}
    return {NESTED_PROCESSOR: {"processor_class": "InternVLProcessor", **says}, "config.json": says}


def register() -> None:
    """From now on transformers' AutoModelForImageTextToText loads every InternVL as this class."""
    AutoModelForImageTextToText.register(InternVLConfig, ReducedInternVL, exist_ok=True)
