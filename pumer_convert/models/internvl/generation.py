"""InternVL with a reduced vision part as a class of transformers, which loads the folders of the layout hf."""

from collections.abc import Mapping
from typing import Any

from transformers import InternVLForConditionalGeneration, InternVLModel

from pumer_convert.models.internvl.network import InternVL
from pumer_convert.models.towers.vision_folders import LANGUAGE as LANGUAGE
from pumer_convert.models.towers.vision_generation import ReducedForGeneration, ReducedVision, named_like
from pumer_convert.weights import NESTED_PROCESSOR


class ReducedInternVLModel(ReducedVision, InternVLModel):  # type: ignore[no-untyped-call]
    """See `ReducedVision`."""

    network = InternVL


class ReducedInternVL(ReducedForGeneration, InternVLForConditionalGeneration):  # type: ignore[no-untyped-call]
    """The same with its language model's head."""

    reduced = ReducedInternVLModel


MODEL = ReducedInternVL
named_like(ReducedInternVL, "internvl")
named_like(ReducedInternVLModel, "InternVLModel")


def count(config: Mapping[str, Any], tokens: int) -> dict[str, dict[str, Any]]:
    """Where files of a checkpoint say that a picture, or a tile of one, has that many `tokens`: name -> the keys that
    do."""
    says = {"image_seq_length": tokens}
    return {NESTED_PROCESSOR: {"processor_class": "InternVLProcessor", **says}, "config.json": says}
