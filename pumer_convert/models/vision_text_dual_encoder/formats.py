"""Folders of VisionTextDualEncoderModel, and the processor of one that has none."""

import re
from collections.abc import Mapping
from typing import Any

from pumer_convert.models.spec import sides_of
from pumer_convert.models.towers.folders import TwoTowers, cropping, squashing
from pumer_convert.models.vision_text_dual_encoder.config import ARCHITECTURES, CLIP, MODEL_TYPE, checked_config
from pumer_convert.weights import Checkpoint, RawCheckpoint

MARK = "text_model.embeddings.word_embeddings.weight"
FOLDERS = TwoTowers(MODEL_TYPE, "VisionTextDualEncoderModel", ARCHITECTURES, MARK, {}, checked_config)
_IN_MEMORY = re.compile(r"(vision_model\.)layers\.(\d+)\.(attention\.[qkvo]_proj|mlp\.fc\d|layernorm_\w+)\.")
_SAVED = {
    **{f"attention.{name[0]}_proj": f"attention.attention.{name}" for name in ("query", "key", "value")},
    **{"attention.o_proj": "attention.output.dense", "mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense"},
}
"""What ViT's parts are called in a running transformers 5, and in the files that it saves."""


def recognise(raw: RawCheckpoint) -> Checkpoint | None:
    """See `TwoTowers.recognise`."""
    return FOLDERS.recognise(raw, _renamed)


def _renamed(name: str) -> str:
    """A name as it is saved now: older files have CLIP's tower in a model of its own, and who saves a state_dict by
    himself has the names in memory."""
    name = name.replace("vision_model.vision_model.", "vision_model.", 1)
    return _IN_MEMORY.sub(lambda found: f"{found[1]}encoder.layer.{found[2]}.{_SAVED.get(found[3], found[3])}.", name)


def processor(config: Mapping[str, Any]) -> dict[str, Any]:
    """The processor of pictures for a checkpoint that has none: that of transformers' class, for its image size."""
    vision = config["vision_config"]
    size = sides_of(vision["image_size"])
    clip = vision["model_type"] == CLIP
    return cropping("CLIPImageProcessor", size) if clip else squashing("ViTImageProcessor", size)
