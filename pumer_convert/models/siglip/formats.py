"""The formats that SigLIP checkpoints come in, and the processor of one that has none."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.models.siglip import open_clip
from pumer_convert.models.siglip.config import ARCHITECTURES, TextSettings, VisionSettings, checked_config
from pumer_convert.models.spec import sides_of
from pumer_convert.models.towers.folders import TwoTowers, squashing
from pumer_convert.weights import Checkpoint, RawCheckpoint

SECTIONS = {"vision": VisionSettings.read, "text": TextSettings.read}
FOLDERS = TwoTowers("siglip", "SigLIP", ARCHITECTURES, "head.probe", SECTIONS, checked_config)


def recognise(raw: RawCheckpoint) -> Checkpoint | None:
    """See `TwoTowers.recognise` and `open_clip.recognise`. Raises InputError also for a SigLIP 2 whose pictures
    keep their shape."""
    if str(raw.config.get("model_type")).startswith("siglip2"):
        raise InputError(
            f"{raw.path}: a SigLIP 2 of the NaFlex kind, whose pictures keep their shape; not supported, unlike those "
            "of one resolution (model_type siglip)."
        )
    if (found := open_clip.recognise(raw)) is not None:
        return replace(found, config=checked_config(found.config, raw.path))
    return FOLDERS.recognise(raw)


def processor(config: Mapping[str, Any]) -> dict[str, Any]:
    """The processor of pictures for a checkpoint that has none: that of transformers' class, for its image size."""
    return squashing("SiglipImageProcessor", sides_of(config["vision_config"]["image_size"]))
