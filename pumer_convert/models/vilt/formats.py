"""The formats that ViLT checkpoints come in, as maps to transformers' names; nothing here reads a weight."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.models.labels import label_map
from pumer_convert.models.published import ENTAILMENT, check_told, published_labels, reference_section, told_heads
from pumer_convert.models.transforms import original_processor, original_text, transform
from pumer_convert.models.values import only_architecture, square, wrong
from pumer_convert.models.vilt.config import HEADS, PAIRS, QUESTION, RETRIEVAL, ViltSettings, checked
from pumer_convert.system.json_file import read_object
from pumer_convert.weights import PROCESSOR, Checkpoint, RawCheckpoint, TensorSlice, processor_of

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
_EMBEDDINGS = {
    "transformer.cls_token": "vilt.embeddings.cls_token",
    "transformer.pos_embed": "vilt.embeddings.position_embeddings",
    "token_type_embeddings.weight": "vilt.embeddings.token_type_embeddings.weight",
}
_PREFIXES = (
    ("text_embeddings.", "vilt.embeddings.text_embeddings."),
    ("transformer.patch_embed.proj.", "vilt.embeddings.patch_embeddings.projection."),
    ("transformer.norm.", "vilt.layernorm."),
    ("pooler.dense.", "vilt.pooler.dense."),
    ("rank_output.", "rank_output."),
    ("vqa_classifier.", "classifier."),
    ("nlvr2_classifier.", "classifier."),
    ("ve_classifier.", "classifier."),
)
_BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


def recognise(raw: RawCheckpoint) -> Checkpoint | None:
    """The checkpoint in the one form, or None when it is not a ViLT. Raises InputError for a ViLT with another head."""
    names = raw.source.names()
    if any(name.startswith("vilt.embeddings.") for name in names):
        return _transformers(raw, names)
    prefix = "vilt." if any(name.startswith("vilt.transformer.blocks.") for name in names) else ""
    if any(name.startswith(prefix + "transformer.blocks.0.attn.qkv") for name in names):
        return _original(raw, names, prefix)
    return None


def _transformers(raw: RawCheckpoint, names: list[str]) -> Checkpoint:
    slices = {name: TensorSlice(name) for name in names if not _IGNORED.search(name)}
    config = dict(raw.config)
    notes: tuple[str, ...] = ()
    if not config:
        beside = raw.path.parent / "config.json"
        if raw.path.is_file() and beside.is_file() and read_object(beside).get("model_type") == "vilt":
            raise InputError(
                f"{raw.path}: beside it lies config.json, which such weights are read by; give the folder, with no "
                "other file of weights in it."
            )
        notes = (NO_CONFIG,)
    if config.get("model_type", "vilt") != "vilt":
        raise wrong(raw.path, "model_type", config["model_type"], "its weights are a ViLT's")
    if "pumer" not in config:
        square(config, "image_size", 384, raw.path)  # transformers' network takes no other table of positions
    architecture = only_architecture(config, HEADS, raw.path)
    if architecture is None:
        architecture, config["num_images"] = _inferred(raw, slices, config)
    config["architectures"] = [architecture]
    if architecture != RETRIEVAL:
        if _LAST not in slices:
            raise InputError(f"{raw.path}: the weights lack the head '{_LAST}' that the config calls for.")
        config["id2label"] = label_map(config, raw.source.shape(_LAST)[0], raw.path)
    config = checked(config, raw.path)
    task = _task(config, architecture, raw.path)
    ignored = tuple(name for name in names if name not in slices)
    origin = "pumer-convert folder" if "pumer" in config else "transformers ViLT folder"
    return Checkpoint(raw.path, origin, "vilt", task, config, raw.source, slices, ignored, raw.companions, notes=notes)


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


def _original(raw: RawCheckpoint, names: list[str], prefix: str) -> Checkpoint:
    slices: dict[str, TensorSlice] = {}
    for key in names:
        slices.update(_rename(key, key.removeprefix(prefix), raw))
    source, published = raw.source, bool(prefix)
    if "rank_output.weight" not in slices and "classifier.3.weight" not in slices:
        _rank_from_matching(raw, names, prefix, slices)
    task, architecture = _head(raw, names)
    table = source.shape(prefix + "transformer.pos_embed")
    words = source.shape(prefix + "text_embeddings.word_embeddings.weight")
    patch = source.shape(prefix + "transformer.patch_embed.proj.weight")
    width = words[1]
    positions = source.shape(prefix + "text_embeddings.position_embeddings.weight")[0]
    blocks = {int(m[1]) for name in names if (m := re.search(r"transformer\.blocks\.(\d+)\.", name))}
    kinds = source.shape(prefix + "token_type_embeddings.weight")[0]
    config: dict[str, Any] = {
        "architectures": [architecture],
        "model_type": "vilt",
        "hidden_size": width,
        "num_hidden_layers": len(blocks),
        "num_attention_heads": told_heads(raw, width),
        "intermediate_size": source.shape(prefix + "transformer.blocks.0.mlp.fc1.weight")[0],
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "text_layer_norm_eps": 1e-12,
        "image_size": math.isqrt(table[1] - 1) * patch[2],
        "patch_size": patch[2],
        "num_channels": patch[1],
        "vocab_size": words[0],
        "max_position_embeddings": positions,
        **original_text(raw.path, raw.hints, "bert", positions),
        "type_vocab_size": source.shape(prefix + "text_embeddings.token_type_embeddings.weight")[0],
        "modality_type_vocab_size": kinds,
        "num_images": 2 if task == "nlvr2" else -1,
        "qkv_bias": prefix + "transformer.blocks.0.attn.qkv.bias" in names,
        "pad_token_id": 0,
        "pumer_task": task,
    }
    if task != "retrieval":
        config["id2label"] = published_labels(raw.config, task, source.shape(slices[_LAST].key)[0], raw.path)
    if published:
        config["pumer"] = reference_section(raw.config, "encoder", 1, len(blocks), raw.path)
    ViltSettings.read(config, raw.path)
    check_told(raw, _told(config))
    limit = raw.hints.get("max_image_len")
    few = isinstance(limit, int) and limit > 0
    origin = "published PuMer ViLT folder" if published else "original ViLT .ckpt"
    used = {piece.key for piece in slices.values()}
    return Checkpoint(
        path=raw.path,
        origin=origin,
        family="vilt",
        task=task,
        config=config,
        source=source,
        slices=slices,
        ignored=tuple(name for name in names if name not in used),
        companions=raw.companions,
        extra_files=_processor(raw, config, published),
        notes=(DRAWN.format(limit),) if few else (),
    )


def _rename(key: str, name: str, raw: RawCheckpoint) -> Iterator[tuple[str, TensorSlice]]:
    if _IGNORED.search(name):
        return
    if name in _EMBEDDINGS:
        yield _EMBEDDINGS[name], TensorSlice(key)
        return
    if match := re.fullmatch(r"transformer\.blocks\.(\d+)\.(.+)\.(weight|bias)", name):
        number, part, kind = match.groups()
        layer = f"vilt.encoder.layer.{number}."
        if part == "attn.qkv":
            third = raw.source.shape(key)[0] // 3
            for i, which in enumerate(("query", "key", "value")):
                yield f"{layer}attention.attention.{which}.{kind}", TensorSlice(key, (i * third, (i + 1) * third))
        else:
            yield f"{layer}{_BLOCK.get(part, part)}.{kind}", TensorSlice(key)
        return
    for old, new in _PREFIXES:
        if name.startswith(old):
            yield new + name.removeprefix(old), TensorSlice(key)
            return
    yield name, TensorSlice(key)  # unknown: reported as unexpected


def _rank_from_matching(raw: RawCheckpoint, names: list[str], prefix: str, slices: dict[str, TensorSlice]) -> None:
    # A pretrained file has no ranking head; the authors start it from the "match" row of the matching head.
    for kind in ("weight", "bias"):
        if f"itm_score.fc.{kind}" in names:
            slices[f"rank_output.{kind}"] = TensorSlice(f"itm_score.fc.{kind}", (1, 2))


def _head(raw: RawCheckpoint, names: list[str]) -> tuple[str, str]:
    for start, task, architecture in (
        ("vqa_classifier.", "vqa", "ViltForQuestionAnswering"),
        ("ve_classifier.", "ve", "ViltForQuestionAnswering"),
        ("nlvr2_classifier.", "nlvr2", "ViltForImagesAndTextClassification"),
        ("rank_output.", "retrieval", "ViltForImageAndTextRetrieval"),
        ("itm_score.", "retrieval", "ViltForImageAndTextRetrieval"),
    ):
        if any(name.startswith(start) for name in names):
            return task, architecture
    raise InputError(f"{raw.path}: a ViLT without a head that is read (vqa, nlvr2, ve or retrieval).")


def _told(config: dict[str, Any]) -> dict[str, int]:
    """What a Lightning file's hyper-parameters have to say of such weights."""
    told = {
        "hidden_size": config["hidden_size"],
        "num_layers": config["num_hidden_layers"],
        "patch_size": config["patch_size"],
        "vocab_size": config["vocab_size"],
    }
    return told | ({"vqav2_label_size": len(config["id2label"])} if config["pumer_task"] == "vqa" else {})


def processor(config: Mapping[str, Any]) -> dict[str, Any]:
    """The processor of pictures for a checkpoint that has none: that of transformers' class, for its image size."""
    return {**transform("pixelbert", config["image_size"]), "size_divisor": config["patch_size"]}


def _processor(raw: RawCheckpoint, config: dict[str, Any], published: bool) -> dict[str, str]:
    if processor_of(raw.path, raw.companions) is not None:
        return {}
    side = config["image_size"]
    values = original_processor(raw.path, raw.hints, "pixelbert", side)
    if published:
        # PuMer squashes every picture to a square.
        values |= {"image_processor_type": "CLIPImageProcessor", "size": {"height": side, "width": side}}
        values |= {"do_center_crop": False, "resample": 2}
    return {PROCESSOR: json.dumps(values, indent=2)}
