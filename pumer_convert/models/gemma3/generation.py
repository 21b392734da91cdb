"""Gemma 3 with a reduced vision part as a class of transformers, which loads the folders of the layout hf."""

from collections.abc import Mapping
from typing import Any

from transformers import Gemma3ForConditionalGeneration, Gemma3Model

from pumer_convert.models.gemma3.network import Gemma3
from pumer_convert.models.towers.vision_folders import LANGUAGE as LANGUAGE
from pumer_convert.models.towers.vision_generation import ReducedForGeneration, ReducedVision, named_like
from pumer_convert.weights import NESTED_PROCESSOR


class ReducedGemma3Model(ReducedVision, Gemma3Model):  # type: ignore[no-untyped-call]
    """See `ReducedVision`."""

    network = Gemma3


class ReducedGemma3(ReducedForGeneration, Gemma3ForConditionalGeneration):  # type: ignore[no-untyped-call]
    """The same with its language model's head."""

    reduced = ReducedGemma3Model


MODEL = ReducedGemma3
named_like(ReducedGemma3, "gemma3")
named_like(ReducedGemma3Model, "Gemma3Model")


def count(config: Mapping[str, Any], tokens: int) -> dict[str, dict[str, Any]]:
    """Where files of a checkpoint say that a picture has that many `tokens`: name -> the keys that do."""
    return {NESTED_PROCESSOR: {"processor_class": "Gemma3Processor", "image_seq_length": tokens}}
