"""The formats that METER checkpoints come in, as maps to the original's names; nothing here reads a weight."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.models.labels import label_map
from pumer_convert.models.meter.config import HEADS, checked
from pumer_convert.models.published import check_told, published_labels, reference_section, told_heads
from pumer_convert.models.transforms import original_processor, original_text, transform
from pumer_convert.models.values import wrong
from pumer_convert.weights import PROCESSOR, Checkpoint, RawCheckpoint, TensorSlice, processor_of

_IGNORED = re.compile(
    r"(^n_averaged$|position_ids|mlm_score|itm_score|mpp_score|token_pruner|text_transformer\.pooler\.|"
    r"vit_model\.ln_final\.|vit_model\.token_embedding|vit_model\.positional_embedding)"
)
_TABLE = "vit_model.visual.positional_embedding"


def recognise(raw: RawCheckpoint) -> Checkpoint | None:
    """The checkpoint in the one form, or None when it is not a METER. Raises InputError for a Swin one."""
    names = raw.source.names()
    if any(".vit_model.layers." in f".{name}" for name in names):
        raise InputError(f"{raw.path}: a METER with a Swin tower, which is not supported; only CLIP-ViT towers are.")
    if "meter." + _TABLE.replace(".visual", "") in names:
        return _convert(raw, {name: _from_published(name) for name in names}, published=True)
    if _TABLE in names:
        return _convert(raw, {name: name for name in names}, published=False)
    return None


def _from_published(name: str) -> str:
    name = name.removeprefix("meter.").replace("ve_classifier.", "snli_classifier.")
    return name.replace("vit_model.", "vit_model.visual.", 1)


def _convert(raw: RawCheckpoint, renamed: dict[str, str], published: bool) -> Checkpoint:
    source = raw.source
    slices = {new: TensorSlice(old) for old, new in renamed.items() if not _IGNORED.search(new)}
    if not any(name.startswith(start) for name in slices for start, *_ in HEADS):
        for kind in ("weight", "bias"):
            # A pretrained file has no ranking head; the authors start it from the "match" row of the matching head.
            if f"itm_score.fc.{kind}" in renamed.values():
                slices[f"rank_output.{kind}"] = TensorSlice(f"itm_score.fc.{kind}", (1, 2))
    found = next(((t, a) for start, t, a in HEADS if any(name.startswith(start) for name in slices)), None)
    if found is None:
        raise InputError(f"{raw.path}: a METER without a head that is read (vqa, nlvr2, snli or retrieval).")
    task, architecture = found
    own = "fusion_order" in raw.config
    config = _own(raw, slices, architecture, task) if own else _config(raw, slices, architecture, task, published)
    config = checked(config, raw.path)
    used = {piece.key for piece in slices.values()}
    origin = (
        "pumer-convert folder" if own else f"{'published PuMer METER folder' if published else 'original METER .ckpt'}"
    )
    return Checkpoint(
        path=raw.path,
        origin=origin,
        family="meter",
        task=task,
        config=config,
        source=source,
        slices=slices,
        ignored=tuple(name for name in renamed if name not in used),
        companions=raw.companions,
        extra_files={} if own else _processor(raw, config["image_size"], published),
    )


def _own(raw: RawCheckpoint, slices: dict[str, TensorSlice], architecture: str, task: str) -> dict[str, Any]:
    """The config that this project wrote, with its labels in one form and the head that the weights have."""
    config = {"architectures": [architecture], **raw.config}
    for key, told, found in (
        ("model_type", config.get("model_type", "meter"), "meter"),
        ("architectures", config["architectures"], [architecture]),
        ("pumer_task", config.get("pumer_task", task), task),
    ):
        if told != found:
            raise wrong(raw.path, key, told, f"by its weights it is {found}")
    if task != "retrieval":
        config["id2label"] = label_map(config, _answers(raw, slices, task), raw.path)
    return config


def _answers(raw: RawCheckpoint, slices: dict[str, TensorSlice], task: str) -> int:
    """The labels of a head."""
    name = next(start for start, t, _ in HEADS if t == task) + "3.weight"
    if name not in slices:
        raise InputError(f"{raw.path}: a METER without the weight '{name}'; the file is not whole.")
    return raw.source.shape(slices[name].key)[0]


def _config(
    raw: RawCheckpoint, slices: dict[str, TensorSlice], architecture: str, task: str, published: bool
) -> dict[str, Any]:
    def shape(name: str) -> tuple[int, ...]:
        if name not in slices:
            raise InputError(f"{raw.path}: a METER without the weight '{name}'; the file is not whole.")
        return raw.source.shape(slices[name].key)

    def count(pattern: str) -> int:
        return len({m[1] for name in slices if (m := re.match(pattern, name))})

    table = shape(_TABLE)
    patch = shape("vit_model.visual.conv1.weight")[2]
    width = shape("cross_modal_text_transform.weight")[0]
    words = shape("text_transformer.embeddings.word_embeddings.weight")
    heads = told_heads(raw, width)
    positions = shape("text_transformer.embeddings.position_embeddings.weight")[0]
    types = shape("text_transformer.embeddings.token_type_embeddings.weight")[0]
    # BERT's tables have 512 positions and 2 token types, RoBERTa's 514, of which 2 are never used, and 1.
    text = "bert" if types == 2 or positions == 512 else "roberta"
    fusion = count(r"cross_modal_text_layers\.(\d+)\.")
    config: dict[str, Any] = {
        "architectures": [architecture],
        "model_type": "meter",
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": shape("cross_modal_text_layers.0.intermediate.dense.weight")[0],
        "num_fusion_layers": fusion,
        "layer_norm_eps": 1e-12,
        "fusion_order": "sequential" if published else "parallel",
        "modality_type_vocab_size": shape("token_type_embeddings.weight")[0],
        "image_size": math.isqrt(table[0] - 1) * patch,
        "patch_size": patch,
        "vision": {
            "hidden_size": table[1],
            "num_hidden_layers": count(r"vit_model\.visual\.transformer\.resblocks\.(\d+)\."),
            "num_attention_heads": heads if table[1] == width else max(table[1] // 64, 1),
            "intermediate_size": shape("vit_model.visual.transformer.resblocks.0.mlp.c_fc.weight")[0],
            "layer_norm_eps": 1e-5,
        },
        "text": {
            "model_type": text,
            "vocab_size": words[0],
            "hidden_size": words[1],
            "num_hidden_layers": count(r"text_transformer\.encoder\.layer\.(\d+)\."),
            "num_attention_heads": heads if words[1] == width else max(words[1] // 64, 1),
            "intermediate_size": shape("text_transformer.encoder.layer.0.intermediate.dense.weight")[0],
            "max_position_embeddings": positions,
            **original_text(raw.path, raw.hints, text, positions - 2 * (text == "roberta")),
            "type_vocab_size": types,
            "pad_token_id": 1 if text == "roberta" else 0,
            "layer_norm_eps": 1e-5 if text == "roberta" else 1e-12,
        },
        "pumer_task": task,
    }
    if task != "retrieval":
        config["id2label"] = published_labels(raw.config, task, _answers(raw, slices, task), raw.path)
    told = {
        "hidden_size": width,
        "num_top_layer": fusion,
        "input_image_embed_size": table[1],
        "input_text_embed_size": words[1],
        "vocab_size": words[0],
        "patch_size": patch,
    }
    check_told(raw, told | ({"vqav2_label_size": len(config["id2label"])} if task == "vqa" else {}))
    if published:
        config["pumer"] = reference_section(raw.config, "fusion", 2, fusion, raw.path)
    return config


def processor(config: Mapping[str, Any]) -> dict[str, Any]:
    """The processor of pictures for a checkpoint that has none: CLIP's, for its image size."""
    return transform("clip", config["image_size"])


def _processor(raw: RawCheckpoint, side: int, published: bool) -> dict[str, str]:
    if processor_of(raw.path, raw.companions) is not None:
        return {}
    values = original_processor(raw.path, raw.hints, "clip", side)
    if published:
        # The original crops the centre, PuMer squashes the picture to a square.
        values |= {"size": {"height": side, "width": side}, "do_center_crop": False}
    return {PROCESSOR: json.dumps(values, indent=2)}
