"""The formats that CLIP checkpoints come in, and the processor of one that has none."""

from collections.abc import Mapping
from typing import Any

from pumer_convert.models.clip.config import ARCHITECTURES, TextSettings, checked_config
from pumer_convert.models.spec import sides_of
from pumer_convert.models.towers import open_clip
from pumer_convert.models.towers.folders import TwoTowers, cropping
from pumer_convert.models.towers.sections import ClipPictures
from pumer_convert.weights import EMBEDDINGS, Checkpoint, RawCheckpoint

SECTIONS = {"vision": ClipPictures.read, "text": TextSettings.read}
FOLDERS = TwoTowers("clip", "CLIP", ARCHITECTURES, "pre_layrnorm.weight", SECTIONS, checked_config)
"""The norm before the tower of pictures is so spelled in transformers, and nowhere else."""


def recognise(raw: RawCheckpoint) -> Checkpoint | None:
    """See `TwoTowers.recognise` and `open_clip.renamed`."""
    found = open_clip.renamed(raw)
    if found is None:
        return FOLDERS.recognise(raw)
    config, notes = checked_config(found.config, raw.path), (open_clip.NOTE,)
    where = (raw, "open_clip checkpoint", "clip", EMBEDDINGS, config, found.slices)
    return Checkpoint.of(*where, notes=notes).with_processor(found.processor)


def processor(config: Mapping[str, Any]) -> dict[str, Any]:
    """The processor of pictures for a checkpoint that has none: that of transformers' class, for its image size."""
    return cropping("CLIPImageProcessor", sides_of(config["vision_config"]["image_size"]))
