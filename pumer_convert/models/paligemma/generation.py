"""PaliGemma with a reduced vision part as a class of transformers, which loads the folders of the layout hf."""

from collections.abc import Mapping
from typing import Any

from transformers import PaliGemmaForConditionalGeneration, PaliGemmaModel

from pumer_convert.models.paligemma.network import PaliGemma
from pumer_convert.models.towers.vision_folders import LANGUAGE as LANGUAGE
from pumer_convert.models.towers.vision_generation import ReducedForGeneration, ReducedVision, named_like
from pumer_convert.weights import NESTED_PROCESSOR, PROCESSOR


class ReducedPaliGemmaModel(ReducedVision, PaliGemmaModel):  # type: ignore[no-untyped-call]
    """See `ReducedVision`."""

    network = PaliGemma
    first_position = 1


class ReducedPaliGemma(ReducedForGeneration, PaliGemmaForConditionalGeneration):  # type: ignore[no-untyped-call]
    """The same with its language model's head."""

    reduced = ReducedPaliGemmaModel


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
