"""BridgeTowers as transformers saves them; nothing here reads a weight."""

import re
from collections.abc import Mapping
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.models.bridgetower.config import CONTRASTIVE, HEADS, RETRIEVAL, BridgeTowerSettings, checked_config
from pumer_convert.models.spec import sides_of
from pumer_convert.models.towers.folders import saved
from pumer_convert.models.values import wrong
from pumer_convert.weights import EMBEDDINGS, Checkpoint, RawCheckpoint, TensorSlice

KNOWN = "bridgetower.vision_model.visual.embeddings.class_embedding"
TASKS = {RETRIEVAL: "retrieval", CONTRASTIVE: EMBEDDINGS}
OTHER = "Its config names {}; it is read by the {} head that it has as well."
_HEAD = {RETRIEVAL: "itm_score.", CONTRASTIVE: "itc_"}
_UNUSED = re.compile(r"position_ids|token_type_ids|text_model\.pooler\.|\.ln_separate\.|^mlm_score\.|^logit_scale$")
_BLOCK = re.compile(r"visual\.transformer\.resblocks\.(\d+)\.")


def recognise(raw: RawCheckpoint) -> Checkpoint | None:
    """The checkpoint in the one form, or None when it is not a BridgeTower. Raises InputError for one whose head is not
    read."""
    names = raw.source.names()
    if KNOWN not in names:
        return None
    if raw.config.get("model_type", "bridgetower") != "bridgetower":
        raise wrong(raw.path, "model_type", raw.config["model_type"], "its weights are a BridgeTower's")
    if not raw.config:
        raise InputError(f"{raw.path}: a BridgeTower without its config.json; give the folder that transformers saved.")
    architecture, notes = _architecture(raw, names)
    config = checked_config({**raw.config, "architectures": [architecture]}, raw.path)
    layers = BridgeTowerSettings.read(config, raw.path).text.num_hidden_layers
    slices = {name: TensorSlice(name) for name in names if _is_used(name, layers, architecture)}
    return _cropped(saved(raw, "bridgetower", config, slices, TASKS[architecture], "BridgeTower", notes=notes))


def _cropped(found: Checkpoint) -> Checkpoint:
    """With a crop where its processor names none: as large as its `size`, if the model takes that. So said
    transformers 4, and wrote null; 5 cuts 288 pixels whatever the size."""
    values = found.processor or {}
    kind = values.get("image_processor_type") or values.get("feature_extractor_type") or "BridgeTower"
    size = values.get("size")
    side = size.get("shortest_edge") if isinstance(size, Mapping) else size
    if (
        values.get("crop_size") is not None
        or side != found.config["vision_config"]["image_size"]
        or not str(kind).startswith("BridgeTower")
    ):
        return found
    return found.with_processor({**values, "crop_size": {"shortest_edge": side}})


def _is_used(name: str, layers: int, architecture: str) -> bool:
    """Whether the network has it: blocks of the image's tower beyond the text's `layers` are never run."""
    if (block := _BLOCK.search(name)) and int(block[1]) >= layers:
        return False
    others = [start for head, start in _HEAD.items() if head != architecture]
    return not _UNUSED.search(name) and not name.startswith(tuple(others))


def _architecture(raw: RawCheckpoint, names: list[str]) -> tuple[str, tuple[str, ...]]:
    """The head that the config names, else one that the weights have, which is noted."""
    given = raw.config.get("architectures")
    named = [name for name in given if name in HEADS] if isinstance(given, list) else []
    if len(named) == 1:
        return str(named[0]), ()
    found = next((head for head, weight in HEADS.items() if weight in names), None)
    told = ", ".join(map(str, given)) if isinstance(given, list) and given else "no architectures"
    if found is None:
        raise InputError(
            f"{raw.path}: a BridgeTower ({told}) without a head that is read, {' or '.join(HEADS)}; one that fills in "
            "words answers at every word, and merged words have no answers of their own."
        )
    return found, (OTHER.format(told, found.removeprefix("BridgeTowerFor")),)


def processor(config: Mapping[str, Any]) -> dict[str, Any]:
    """The processor of pictures for a checkpoint that has none: that of transformers' class, for its image size."""
    side = min(sides_of(config["vision_config"]["image_size"]))
    return {
        "image_processor_type": "BridgeTowerImageProcessor",
        "size": {"shortest_edge": side},
        "size_divisor": min(32, side),
        "crop_size": {"shortest_edge": side},
    }
