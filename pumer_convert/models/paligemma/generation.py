"""PaliGemma with a reduced vision part as a class of transformers, which loads the folders of the layout hf."""

from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import (
    AutoModelForImageTextToText,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaModel,
)

from pumer_convert.models.paligemma.network import PaliGemma
from pumer_convert.models.towers.vision_folders import LANGUAGE as LANGUAGE
from pumer_convert.models.towers.vision_generation import OriginalPositions, ReducedVision, named_like
from pumer_convert.weights import NESTED_PROCESSOR, PROCESSOR


class ReducedPaliGemmaModel(ReducedVision, PaliGemmaModel):  # type: ignore[no-untyped-call]
    """See `ReducedVision`."""

    network = PaliGemma
    first_position = 1


class ReducedPaliGemma(OriginalPositions, PaliGemmaForConditionalGeneration):  # type: ignore[no-untyped-call]
    """The same with its language model's head."""

    def __init__(self, config: PaliGemmaConfig) -> None:
        super(PaliGemmaForConditionalGeneration, self).__init__(config)
        self.model = ReducedPaliGemmaModel(config)
        language: Any = config.text_config
        self.lm_head = nn.Linear(language.hidden_size, language.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]


MODEL = ReducedPaliGemma
INSTRUCTION = "answer en"
"""What stands before every question, as in its training (Beyer et al., 2024)."""
named_like(ReducedPaliGemma, "paligemma")
named_like(ReducedPaliGemmaModel, "PaliGemmaModel")


def prompt_of(question: str, instruction: str) -> str:
    """A question as its processor takes it, which adds the first token and the end of the line."""
    return f"<image>{instruction} {question}" if instruction else f"<image>{question}"


def count(config: Mapping[str, Any], tokens: int) -> dict[str, dict[str, Any]]:
    """Where files of a checkpoint say that a picture has that many `tokens`: name -> the keys that do."""
    says = {"image_seq_length": tokens}
    return {NESTED_PROCESSOR: {"processor_class": "PaliGemmaProcessor", "image_processor": says}, PROCESSOR: says}


def register() -> None:
    """From now on transformers' AutoModelForImageTextToText loads every PaliGemma as this class."""
    AutoModelForImageTextToText.register(PaliGemmaConfig, ReducedPaliGemma, exist_ok=True)
