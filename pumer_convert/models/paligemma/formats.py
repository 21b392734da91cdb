"""transformers' folders of PaliGemma, and the processor of one that has none."""

from collections.abc import Mapping
from typing import Any

from pumer_convert.models.paligemma.config import checked_config, settings_of
from pumer_convert.models.spec import sides_of
from pumer_convert.models.towers.folders import squashing, without_config
from pumer_convert.models.towers.vision_folders import part_of
from pumer_convert.models.towers.vision_part import PROJECTOR
from pumer_convert.weights import Checkpoint, RawCheckpoint


def recognise(raw: RawCheckpoint) -> Checkpoint | None:
    """The vision part of a PaliGemma, or None for another model. Raises InputError for weights of one that nothing says
    how to use."""
    kind = raw.config.get("model_type")
    if kind is None and f"{PROJECTOR}linear.weight" in raw.source.names():
        raise without_config(raw, "PaliGemma")
    if kind != "paligemma":
        return None
    config = checked_config(raw.config, raw.path)
    return part_of(raw, "paligemma", config, settings_of(config))


def processor(config: Mapping[str, Any]) -> dict[str, Any]:
    """The processor of pictures for a checkpoint that has none: that of transformers' class, for its image size."""
    return squashing("SiglipImageProcessor", sides_of(config["vision_config"]["image_size"]))
