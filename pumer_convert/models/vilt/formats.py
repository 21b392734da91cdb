"""The formats that ViLT checkpoints come in, as maps to transformers' names; nothing here reads a weight."""

import math
import re
from collections.abc import Mapping
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.models.labels import label_map
from pumer_convert.models.originals import ENTAILMENT, Head, Original, renamed, with_ranking
from pumer_convert.models.published import reference_section
from pumer_convert.models.towers.folders import saved
from pumer_convert.models.transforms import original_text, transform
from pumer_convert.models.values import only_architecture, wrong
from pumer_convert.models.vilt.config import HEADS, PAIRS, QUESTION, RETRIEVAL, ViltSettings, checked_config
from pumer_convert.system.json_file import read_object
from pumer_convert.weights import Checkpoint, RawCheckpoint, TensorSlice

NO_CONFIG = (
    "There is no config.json with these weights; what they do not tell, such as the number of heads, is as "
    "transformers' ViltConfig has it."
)
DRAWN = (
    "Its hyper-parameters say max_image_len: {}; the original draws that many of a larger picture's patches at random, "
    "here all are seen, as in transformers' conversion of it."
)
_FIRST, _LAST = "classifier.0.weight", "classifier.3.weight"
_IGNORED = re.compile(r"(^n_averaged$|position_ids|mlm_score|itm_score|mpp_score|token_pruner|transformer\.head)")
_BLOCK = r"transformer\.blocks\.(\d+)\."
_RENAMED = (
    (r"transformer\.cls_token", "vilt.embeddings.cls_token"),
    (r"transformer\.pos_embed", "vilt.embeddings.position_embeddings"),
    (r"transformer\.patch_embed\.proj\.", "vilt.embeddings.patch_embeddings.projection."),
    (r"(text|token_type)_embeddings\.", r"vilt.embeddings.\1_embeddings."),
    (_BLOCK + r"norm1\.", r"vilt.encoder.layer.\1.layernorm_before."),
    (_BLOCK + r"norm2\.", r"vilt.encoder.layer.\1.layernorm_after."),
    (_BLOCK + r"attn\.qkv\.", r"vilt.encoder.layer.\1.attention.attention.*."),
    (_BLOCK + r"attn\.proj\.", r"vilt.encoder.layer.\1.attention.output.dense."),
    (_BLOCK + r"mlp\.fc1\.", r"vilt.encoder.layer.\1.intermediate.dense."),
    (_BLOCK + r"mlp\.fc2\.", r"vilt.encoder.layer.\1.output.dense."),
    (r"transformer\.norm\.", "vilt.layernorm."),
    (r"pooler\.dense\.", "vilt.pooler.dense."),
    (r"(vqa|nlvr2|ve)_classifier\.", "classifier."),
)
"""See `originals.renamed`."""
_ORIGINAL_HEADS: tuple[Head, ...] = tuple(
    ("rank_output." if task == "retrieval" else f"{task}_classifier.", task, architecture)
    for architecture, tasks in HEADS.items()
    for task in tasks
)


def recognise(raw: RawCheckpoint) -> Checkpoint | None:
    """The checkpoint in the one form, or None when it is not a ViLT. Raises InputError for a ViLT with another head."""
    names = raw.source.names()
    if any(name.startswith("vilt.embeddings.") for name in names):
        return _transformers(raw, names)
    for prefix in ("vilt.", ""):
        if any(name.startswith(f"{prefix}transformer.blocks.0.attn.qkv") for name in names):
            return _original(raw, prefix)
    return None


def _transformers(raw: RawCheckpoint, names: list[str]) -> Checkpoint:
    slices = {name: TensorSlice(name) for name in names if not _IGNORED.search(name)}
    config = dict(raw.config)
    if not config:
        beside = raw.path.parent / "config.json"
        if raw.path.is_file() and beside.is_file() and read_object(beside).get("model_type") == "vilt":
            raise InputError(
                f"{raw.path}: beside it lies config.json, which such weights are read by; give the folder, with no "
                "other file of weights in it."
            )
    if config.get("model_type", "vilt") != "vilt":
        raise wrong(raw.path, "model_type", config["model_type"], "its weights are a ViLT's")
    architecture = only_architecture(config, HEADS, raw.path)
    if architecture is None:
        architecture, config["num_images"] = _inferred(raw, slices, config)
    config["architectures"] = [architecture]
    if architecture != RETRIEVAL:
        if _LAST not in slices:
            raise InputError(f"{raw.path}: the weights lack the head '{_LAST}' that the config calls for.")
        config["id2label"] = label_map(config, raw.source.shape(_LAST)[0], raw.path)
    config = checked_config(config, raw.path)
    notes = () if raw.config else (NO_CONFIG,)
    return saved(raw, "vilt", config, slices, _task(config, architecture, raw.path), "ViLT", notes=notes)


def _inferred(raw: RawCheckpoint, slices: dict[str, TensorSlice], config: dict[str, Any]) -> tuple[str, Any]:
    """The head that the weights are of, where the config names none, and how many images it takes (-1: not told)."""
    if "rank_output.weight" in slices:
        return RETRIEVAL, -1
    within, wide = raw.source.shape(_FIRST) if _FIRST in slices else (0, 0)
    width = ViltSettings.hidden_size if config.get("hidden_size") is None else config["hidden_size"]
    if within and within == wide and isinstance(width, int) and width > 0:
        return PAIRS, wide // width
    if within and within == 2 * wide:
        return QUESTION, -1
    raise InputError(
        f"{raw.path}: its config has no architectures, and the weights have none of the heads of {', '.join(HEADS)}."
    )


def _task(config: dict[str, Any], architecture: str, where: object) -> str:
    """What a head is for: `pumer_task`, which is ours, else the first task of the architecture; a question answering
    that tells contradiction, neutral and entailment apart is entailment."""
    given, tasks = config.get("pumer_task"), HEADS[architecture]
    if given is None:
        names = {name.strip().lower() for name in config.get("id2label", {}).values()}
        return "ve" if architecture == QUESTION and names == set(ENTAILMENT) else tasks[0]
    if given not in tasks:
        raise wrong(where, "pumer_task", given, f"allowed for a {architecture}: {', '.join(tasks)}")
    return str(given)


def _original(raw: RawCheckpoint, prefix: str) -> Checkpoint:
    slices: dict[str, TensorSlice] = {}
    keys = {key.removeprefix(prefix): key for key in raw.source.names()}
    for name, key in keys.items():
        if not _IGNORED.search(name):
            slices |= renamed(raw, key, name, _RENAMED)
    slices = with_ranking(raw, slices, ("classifier.", "rank_output."))
    found = Original(raw, "ViLT", slices, bool(prefix))
    _, task, architecture = found.head(_ORIGINAL_HEADS, [*keys, *slices])
    embeddings, layers = "vilt.embeddings.", found.count("vilt.encoder.layer.")
    patch = found.shape(f"{embeddings}patch_embeddings.projection.weight")
    words, width = found.shape(f"{embeddings}text_embeddings.word_embeddings.weight")
    positions = found.shape(f"{embeddings}text_embeddings.position_embeddings.weight")[0]
    config: dict[str, Any] = {
        "architectures": [architecture],
        "model_type": "vilt",
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": found.heads(width),
        "intermediate_size": found.shape("vilt.encoder.layer.0.intermediate.dense.weight")[0],
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "text_layer_norm_eps": 1e-12,
        "image_size": math.isqrt(found.shape(f"{embeddings}position_embeddings")[1] - 1) * patch[2],
        "patch_size": patch[2],
        "num_channels": patch[1],
        "vocab_size": words,
        "max_position_embeddings": positions,
        **original_text(raw.path, raw.hints, "bert", positions),
        "type_vocab_size": found.shape(f"{embeddings}text_embeddings.token_type_embeddings.weight")[0],
        "modality_type_vocab_size": found.shape(f"{embeddings}token_type_embeddings.weight")[0],
        "num_images": 2 if task == "nlvr2" else -1,
        "qkv_bias": "vilt.encoder.layer.0.attention.attention.query.bias" in slices,
        "pad_token_id": 0,
        "pumer_task": task,
    }
    if found.published:
        config["pumer"] = reference_section(raw.config, "encoder", 1, layers, raw.path)
    ViltSettings.read(config, raw.path)
    told = {"hidden_size": width, "num_layers": layers, "patch_size": patch[2], "vocab_size": words}
    squashed = {"image_processor_type": "CLIPImageProcessor", "resample": 2}
    limit = raw.hints.get("max_image_len")
    notes = (DRAWN.format(limit),) if isinstance(limit, int) and limit > 0 else ()
    return found.checkpoint("vilt", config, "classifier.", told, ("pixelbert", squashed), notes)


def processor(config: Mapping[str, Any]) -> dict[str, Any]:
    """The processor of pictures for a checkpoint that has none: that of transformers' class, for its image size."""
    return {**transform("pixelbert", config["image_size"]), "size_divisor": config["patch_size"]}
