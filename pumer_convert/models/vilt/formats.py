"""The formats that ViLT checkpoints come in, as maps to transformers' names; nothing here reads a weight."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.models.published import ENTAILMENT, REASONING, labels, reference_section
from pumer_convert.models.transforms import original_processor, original_text, transform
from pumer_convert.weights import PROCESSOR, Checkpoint, Piece, RawCheckpoint, processor_of

HEADS = {
    "ViltForQuestionAnswering": "vqa",
    "ViltForImagesAndTextClassification": "nlvr2",
    "ViltForImageAndTextRetrieval": "retrieval",
}
_IGNORED = re.compile(r"(position_ids|mlm_score|itm_score|mpp_score|token_pruner|transformer\.head)")
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
    config = dict(raw.config)
    architecture = (config.get("architectures") or [""])[0]
    if architecture not in HEADS:
        raise InputError(
            f"{raw.path}: a ViLT with the head '{architecture}'; the heads that are read are {', '.join(HEADS)}."
        )
    pieces = {name: Piece(name) for name in names if not _IGNORED.search(name)}
    defaults = {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-12,
        "image_size": 384,
        "patch_size": 32,
        "num_channels": 3,
        "vocab_size": 30522,
        "max_position_embeddings": 40,
        "type_vocab_size": 2,
        "modality_type_vocab_size": 2,
        "qkv_bias": True,
        "pad_token_id": 0,
    }
    config = {**defaults, **config}
    if architecture != "ViltForImageAndTextRetrieval":
        key = "classifier.3.weight"
        if key not in pieces:
            raise InputError(f"{raw.path}: the weights lack the head '{key}' that the config calls for.")
        config["id2label"] = labels(config.get("id2label"), raw.source.shape(key)[0])
    task = config.get("pumer_task") or HEADS[architecture]
    ignored = tuple(name for name in names if name not in pieces)
    origin = "pumer-convert folder" if "pumer" in config else "transformers ViLT folder"
    return Checkpoint(raw.path, origin, "vilt", task, config, raw.source, pieces, ignored, raw.companions)


def _original(raw: RawCheckpoint, names: list[str], prefix: str) -> Checkpoint:
    pieces: dict[str, Piece] = {}
    for key in names:
        pieces.update(_rename(key, key.removeprefix(prefix), raw))
    source, published = raw.source, bool(prefix)
    if "rank_output.weight" not in pieces and "classifier.3.weight" not in pieces:
        _rank_from_matching(raw, names, prefix, pieces)
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
        "num_attention_heads": _heads(raw, width),
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
        given = {"ve": ENTAILMENT, "nlvr2": REASONING}.get(task, raw.config.get("id2label"))
        config["id2label"] = labels(given, raw.source.shape(pieces["classifier.3.weight"].key)[0])
    if published:
        config["pumer"] = reference_section(raw.config, "encoder", 1, len(blocks))
    origin = "published PuMer ViLT folder" if published else "original ViLT .ckpt"
    used = {piece.key for piece in pieces.values()}
    return Checkpoint(
        path=raw.path,
        origin=origin,
        family="vilt",
        task=task,
        config=config,
        source=source,
        pieces=pieces,
        ignored=tuple(name for name in names if name not in used),
        companions=raw.companions,
        extra_files=_processor(raw, config, published),
    )


def _rename(key: str, name: str, raw: RawCheckpoint) -> Iterator[tuple[str, Piece]]:
    if _IGNORED.search(name):
        return
    if name in _EMBEDDINGS:
        yield _EMBEDDINGS[name], Piece(key)
        return
    if match := re.fullmatch(r"transformer\.blocks\.(\d+)\.(.+)\.(weight|bias)", name):
        number, part, kind = match.groups()
        layer = f"vilt.encoder.layer.{number}."
        if part == "attn.qkv":
            third = raw.source.shape(key)[0] // 3
            for i, which in enumerate(("query", "key", "value")):
                yield f"{layer}attention.attention.{which}.{kind}", Piece(key, (i * third, (i + 1) * third))
        else:
            yield f"{layer}{_BLOCK.get(part, part)}.{kind}", Piece(key)
        return
    for old, new in _PREFIXES:
        if name.startswith(old):
            yield new + name.removeprefix(old), Piece(key)
            return
    yield name, Piece(key)  # unknown: reported as unexpected


def _rank_from_matching(raw: RawCheckpoint, names: list[str], prefix: str, pieces: dict[str, Piece]) -> None:
    # A pretrained file has no ranking head; the authors start it from the "match" row of the matching head.
    for kind in ("weight", "bias"):
        if f"itm_score.fc.{kind}" in names:
            pieces[f"rank_output.{kind}"] = Piece(f"itm_score.fc.{kind}", (1, 2))


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


def _heads(raw: RawCheckpoint, width: int) -> int:
    given = raw.config.get("num_heads") or raw.hints.get("num_heads")
    return int(given) if given else max(width // 64, 1)


def processor(config: dict[str, Any]) -> dict[str, Any]:
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
