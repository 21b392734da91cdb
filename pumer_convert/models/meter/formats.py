"""The formats that METER checkpoints come in, as maps to the original's names; nothing here reads a weight."""

import math
import re
from collections.abc import Mapping
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.models.labels import label_map
from pumer_convert.models.meter.config import HEADS, checked_config
from pumer_convert.models.originals import Head, Original, with_ranking
from pumer_convert.models.published import reference_section
from pumer_convert.models.transforms import original_text, transform
from pumer_convert.models.values import wrong
from pumer_convert.weights import Checkpoint, RawCheckpoint, TensorSlice

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
    published = "meter." + _TABLE.replace(".visual", "") in names
    if not published and _TABLE not in names:
        return None
    renamed = {_from_published(name) if published else name: TensorSlice(name) for name in names}
    slices = {name: piece for name, piece in renamed.items() if not _IGNORED.search(name)}
    slices = with_ranking(raw, slices, tuple(start for start, *_ in HEADS))
    found = Original(raw, "METER", slices, published)
    head = found.head(HEADS, slices)
    return _own(found, head) if "fusion_order" in raw.config else _original(found, head)


def _from_published(name: str) -> str:
    name = name.removeprefix("meter.").replace("ve_classifier.", "snli_classifier.")
    return name.replace("vit_model.", "vit_model.visual.", 1)


def _own(found: Original, head: Head) -> Checkpoint:
    """By the config that this project wrote, with its labels in one form and the head that the weights have."""
    raw, (start, task, architecture) = found.raw, head
    config = {"architectures": [architecture], **raw.config}
    for key, told, own in (
        ("model_type", config.get("model_type", "meter"), "meter"),
        ("architectures", config["architectures"], [architecture]),
        ("pumer_task", config.get("pumer_task", task), task),
    ):
        if told != own:
            raise wrong(raw.path, key, told, f"by its weights it is {own}")
    if task != "retrieval":
        config["id2label"] = label_map(config, found.shape(f"{start}3.weight")[0], raw.path)
    return Checkpoint.of(raw, "pumer-convert folder", "meter", task, checked_config(config, raw.path), found.slices)


def _original(found: Original, head: Head) -> Checkpoint:
    raw, shape, (start, task, architecture) = found.raw, found.shape, head
    (places, wide), patch = shape(_TABLE), shape("vit_model.visual.conv1.weight")[2]
    width = shape("cross_modal_text_transform.weight")[0]
    words, text_width = shape("text_transformer.embeddings.word_embeddings.weight")
    heads = found.heads(width)
    positions = shape("text_transformer.embeddings.position_embeddings.weight")[0]
    types = shape("text_transformer.embeddings.token_type_embeddings.weight")[0]
    # BERT's tables have 512 positions and 2 token types, RoBERTa's 514, of which 2 are never used, and 1.
    text = "bert" if types == 2 or positions == 512 else "roberta"
    fusion = found.count("cross_modal_text_layers.")
    config: dict[str, Any] = {
        "architectures": [architecture],
        "model_type": "meter",
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": shape("cross_modal_text_layers.0.intermediate.dense.weight")[0],
        "num_fusion_layers": fusion,
        "layer_norm_eps": 1e-12,
        "fusion_order": "sequential" if found.published else "parallel",
        "modality_type_vocab_size": shape("token_type_embeddings.weight")[0],
        "image_size": math.isqrt(places - 1) * patch,
        "patch_size": patch,
        "vision": {
            "hidden_size": wide,
            "num_hidden_layers": found.count("vit_model.visual.transformer.resblocks."),
            "num_attention_heads": heads if wide == width else max(wide // 64, 1),
            "intermediate_size": shape("vit_model.visual.transformer.resblocks.0.mlp.c_fc.weight")[0],
            "layer_norm_eps": 1e-5,
        },
        "text": {
            "model_type": text,
            "vocab_size": words,
            "hidden_size": text_width,
            "num_hidden_layers": found.count("text_transformer.encoder.layer."),
            "num_attention_heads": heads if text_width == width else max(text_width // 64, 1),
            "intermediate_size": shape("text_transformer.encoder.layer.0.intermediate.dense.weight")[0],
            "max_position_embeddings": positions,
            **original_text(raw.path, raw.hints, text, positions - 2 * (text == "roberta")),
            "type_vocab_size": types,
            "pad_token_id": 1 if text == "roberta" else 0,
            "layer_norm_eps": 1e-5 if text == "roberta" else 1e-12,
        },
        "pumer_task": task,
    }
    if found.published:
        config["pumer"] = reference_section(raw.config, "fusion", 2, fusion, raw.path)
    told = {"hidden_size": width, "num_top_layer": fusion, "vocab_size": words, "patch_size": patch}
    told |= {"input_image_embed_size": wide, "input_text_embed_size": text_width}
    return found.checkpoint("meter", checked_config(config, raw.path), start, told, ("clip", {}))


def processor(config: Mapping[str, Any]) -> dict[str, Any]:
    """The processor of pictures for a checkpoint that has none: CLIP's, for its image size."""
    return transform("clip", config["image_size"])
