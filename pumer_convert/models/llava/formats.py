"""transformers' folders of LLaVA as maps to the names of the vision part, and the processor of one that has none."""

from collections.abc import Mapping
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.models.llava.config import LlavaSettings, checked_config
from pumer_convert.models.spec import sides_of
from pumer_convert.models.towers.folders import cropping, saved, without_config
from pumer_convert.weights import Checkpoint, RawCheckpoint, TensorSlice

TOWER, PROJECTOR = "vision_tower.", "multi_modal_projector."
LANGUAGE = ("language_model.", "lm_head.")
NOTE = "This is the vision part alone, tower and projector; the language model stays in the checkpoint that it is of."


def recognise(raw: RawCheckpoint) -> Checkpoint | None:
    """The vision part of a LLaVA, or None for another model. Raises InputError for weights of one that nothing says how
    to use, and for one of the authors' own form."""
    if (tower := raw.config.get("mm_vision_tower")) is not None:
        raise InputError(
            f"{raw.path}: a LLaVA of its authors' own program, for a tower that lies elsewhere ({tower}); take it as "
            "transformers saves it, such as llava-hf/llava-1.5-7b-hf."
        )
    names = raw.source.names()
    kind = raw.config.get("model_type")
    if kind is None and f"{PROJECTOR}linear_1.weight" in names:
        raise without_config(raw, "LLaVA")
    if kind != "llava":
        return None
    config = checked_config(raw.config, raw.path)
    blocks = LlavaSettings.read(config).blocks
    slices: dict[str, TensorSlice] = {}
    ignored: list[str] = []
    for name in names:
        if name.startswith(LANGUAGE):
            continue
        own = name.replace(f"{TOWER}vision_model.", TOWER, 1)
        if own.startswith(TOWER) and _unused(own.removeprefix(TOWER), blocks):
            ignored.append(name)
        else:
            slices[own] = TensorSlice(name)
    return saved(raw, "llava", config, slices, ignored=tuple(ignored), notes=(NOTE,))


def _unused(name: str, blocks: int) -> bool:
    """Whether a weight of the tower stands behind all that the projector takes."""
    if name.startswith(("post_layernorm.", "head.")) or name == "embeddings.position_ids":
        return True
    number = name.removeprefix("encoder.layers.").partition(".")[0]
    return name.startswith("encoder.layers.") and number.isdecimal() and int(number) >= blocks


def processor(config: Mapping[str, Any]) -> dict[str, Any]:
    """The processor of pictures for a checkpoint that has none: that of transformers' class, for its image size."""
    return cropping("LlavaImageProcessor", sides_of(config["vision_config"]["image_size"]))
