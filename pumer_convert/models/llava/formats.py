"""transformers' folders of LLaVA, and the processor of one that has none."""

from collections.abc import Mapping
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.models.llava.config import LlavaSettings, checked_config
from pumer_convert.models.spec import sides_of
from pumer_convert.models.towers.folders import cropping, without_config
from pumer_convert.models.towers.vision_folders import part_of
from pumer_convert.models.towers.vision_part import PROJECTOR
from pumer_convert.weights import Checkpoint, RawCheckpoint


def recognise(raw: RawCheckpoint) -> Checkpoint | None:
    """The vision part of a LLaVA, or None for another model. Raises InputError for weights of one that nothing says how
    to use, and for one of the authors' own form."""
    if (tower := raw.config.get("mm_vision_tower")) is not None:
        raise InputError(
            f"{raw.path}: a LLaVA of its authors' own program, for a tower that lies elsewhere ({tower}); take it as "
            "transformers saves it, such as llava-hf/llava-1.5-7b-hf."
        )
    kind = raw.config.get("model_type")
    if kind is None and f"{PROJECTOR}linear_1.weight" in raw.source.names():
        raise without_config(raw, "LLaVA")
    if kind != "llava":
        return None
    config = checked_config(raw.config, raw.path)
    return part_of(raw, "llava", config, LlavaSettings.read(config))


def processor(config: Mapping[str, Any]) -> dict[str, Any]:
    """The processor of pictures for a checkpoint that has none: that of transformers' class, for its image size."""
    return cropping("LlavaImageProcessor", sides_of(config["vision_config"]["image_size"]))
