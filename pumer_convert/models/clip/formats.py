"""The formats that CLIP checkpoints come in, and the processor of one that has none."""

from collections.abc import Mapping
from typing import Any

from pumer_convert.models.clip.config import ARCHITECTURES, TextSettings, VisionSettings, checked
from pumer_convert.models.spec import sides_of
from pumer_convert.models.towers.folders import TwoTowers


def _read(tower: str, values: Mapping[str, Any], where: object, prefix: str) -> object:
    settings: type[VisionSettings | TextSettings] = VisionSettings if tower == "vision" else TextSettings
    return settings.read(values, where, prefix)


FOLDERS = TwoTowers("clip", "CLIP", ARCHITECTURES, "pre_layrnorm.weight", _read, checked)
"""The norm before the tower of pictures is so spelled in transformers, and nowhere else."""


def processor(config: Mapping[str, Any]) -> dict[str, Any]:
    """The processor of pictures for a checkpoint that has none: that of transformers' class, for its image size."""
    height, width = sides_of(config["vision_config"]["image_size"])
    return {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": min(height, width)},
        "crop_size": {"height": height, "width": width},
    }
