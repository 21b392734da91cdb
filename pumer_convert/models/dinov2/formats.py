"""The format that DINOv2 checkpoints come in, and the processor of one that has none."""

from collections.abc import Mapping
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.models.dinov2.config import KINDS, checked_config
from pumer_convert.models.spec import sides_of
from pumer_convert.models.towers.folders import cropping, saved, without_config
from pumer_convert.weights import Checkpoint, RawCheckpoint, TensorSlice

FIRST = "encoder.layer.0.layer_scale1.lambda1"
"""A weight that no other family has."""
MASK = "embeddings.mask_token"
"""What hides patches in pretraining."""
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
"""ImageNet's, which all published ones were trained with."""


def recognise(raw: RawCheckpoint) -> Checkpoint | None:
    """The checkpoint in the one form, None when it is none of this family. Raises InputError for weights that nothing
    says how to use, and for those under the names that they have within transformers alone."""
    kind, names = raw.config.get("model_type"), raw.source.names()
    if kind is None and FIRST in names:
        raise without_config(raw, "DINOv2")
    if not isinstance(kind, str) or kind not in KINDS:
        return None
    config = checked_config(raw.config, raw.path)
    if any(".attention.q_proj." in name for name in names):
        raise InputError(
            f"{raw.path}: its weights have the names that they have within transformers 5; save the model with "
            "save_pretrained, whose names are read."
        )
    return saved(raw, "dinov2", config, {name: TensorSlice(name) for name in names if name != MASK})


def processor(config: Mapping[str, Any]) -> dict[str, Any]:
    """The processor of pictures for a checkpoint that has none: that of the published ones, for its image size."""
    normal = {"image_mean": MEAN, "image_std": STD}
    return {**cropping("BitImageProcessor", sides_of(config["image_size"])), **normal}
