"""LLaVA with a reduced vision part as a class of transformers, which loads the folders of the layout hf."""

from collections.abc import Mapping
from typing import Any

from transformers import LlavaForConditionalGeneration, LlavaModel

from pumer_convert.models.llava.config import USUAL
from pumer_convert.models.llava.network import Llava
from pumer_convert.models.spec import grid
from pumer_convert.models.towers.mlp_part import MlpPart
from pumer_convert.models.towers.vision_folders import LANGUAGE as LANGUAGE
from pumer_convert.models.towers.vision_generation import ReducedForGeneration, ReducedVision, named_like
from pumer_convert.weights import NESTED_PROCESSOR


class ReducedLlavaModel(ReducedVision, LlavaModel):  # type: ignore[no-untyped-call]
    """See `ReducedVision`."""

    network = Llava
    listed = True


class ReducedLlava(ReducedForGeneration, LlavaForConditionalGeneration):  # type: ignore[no-untyped-call]
    """The same with its language model's head."""

    reduced = ReducedLlavaModel


MODEL = ReducedLlava

named_like(ReducedLlava, "llava")
named_like(ReducedLlavaModel, "LlavaModel")


def count(config: Mapping[str, Any], tokens: int) -> dict[str, dict[str, Any]]:
    """Where files of a checkpoint say that a picture has that many `tokens`: name -> the keys that do. LlavaProcessor
    counts the patches of the grid and adds to them, less the first token where that is left out."""
    settings = MlpPart.read(config, USUAL)
    vision = settings.vision
    rows, columns = grid(vision.image_size, vision.patch_size)
    processor = {
        "processor_class": "LlavaProcessor",
        "patch_size": vision.patch_size,
        "vision_feature_select_strategy": "default" if settings.trimmed else "full",
        "num_additional_image_tokens": tokens - rows * columns + settings.trimmed,
    }
    return {NESTED_PROCESSOR: processor, "config.json": {"image_seq_length": tokens}}
