"""The formats that SigLIP checkpoints come in, and the processor of one that has none."""

from collections.abc import Mapping
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.models.siglip.config import ARCHITECTURES, TextSettings, VisionSettings, checked_config
from pumer_convert.models.spec import sides_of
from pumer_convert.models.towers import open_clip_siglip
from pumer_convert.models.towers.folders import TwoTowers, squashing
from pumer_convert.weights import EMBEDDINGS, Checkpoint, RawCheckpoint

SECTIONS = {"vision": VisionSettings.read, "text": TextSettings.read}
FOLDERS = TwoTowers("siglip", "SigLIP", ARCHITECTURES, "head.probe", SECTIONS, checked_config)


def recognise(raw: RawCheckpoint) -> Checkpoint | None:
    """See `TwoTowers.recognise` and `open_clip_siglip.renamed`. Raises InputError also for a SigLIP 2 whose pictures
    keep their shape."""
    if str(raw.config.get("model_type")).startswith("siglip2"):
        raise InputError(
            f"{raw.path}: a SigLIP 2 of the NaFlex kind, whose pictures keep their shape; not supported, unlike those "
            "of one resolution (model_type siglip)."
        )
    if (found := open_clip_siglip.renamed(raw)) is None:
        return FOLDERS.recognise(raw)
    read, new, notes = found
    where = (read, "open_clip checkpoint", "siglip", EMBEDDINGS, checked_config(new.config, raw.path), new.slices)
    return Checkpoint.of(*where, notes=notes).with_processor(new.processor)


def processor(config: Mapping[str, Any]) -> dict[str, Any]:
    """The processor of pictures for a checkpoint that has none: that of transformers' class, for its image size."""
    return squashing("SiglipImageProcessor", sides_of(config["vision_config"]["image_size"]))
