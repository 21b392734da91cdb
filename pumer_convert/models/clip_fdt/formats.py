"""The files that CLIP+FDT's training writes, as maps to the one form; nothing here reads a weight."""

import math
import re
from collections.abc import Mapping
from math import isqrt
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.models.clip_fdt.config import MODEL_TYPE, checked_config
from pumer_convert.models.clip_fdt.told import Told, told
from pumer_convert.models.spec import sides_of
from pumer_convert.models.towers.clip_words import words_beside
from pumer_convert.models.towers.open_clip import new_names
from pumer_convert.models.transforms import transform
from pumer_convert.weights import EMBEDDINGS, Checkpoint, RawCheckpoint, TensorSlice

MARK = "space_dict"
_TEXT = "encode_text."
_UNREAD = re.compile(r"visual\.(ln_post\..*|proj)|encode_text\.text_projection\..*|logit_scale_sd|.*attn_mask")
"""What makes CLIP's own embeddings, which the codebook's stand for, and a scale that the original uses nowhere."""
LARGEST = math.log(100)
"""The original takes no larger scale of logits."""
NOTE = "Texts are read by the tokenizer alone, without the original's mending of broken Unicode and HTML before it."


def recognise(raw: RawCheckpoint) -> Checkpoint | None:
    """The checkpoint in the one form, or None when it is no CLIP+FDT. Raises InputError for other towers than the
    original's vision transformers and its own texts, and where nothing says the temperature of its codebook."""
    names = raw.source.names()
    if raw.config.get("model_type") == MODEL_TYPE:
        slices = {name: TensorSlice(name) for name in names}
        own = checked_config(raw.config, raw.path)
        return Checkpoint.of(raw, "pumer-convert folder", MODEL_TYPE, EMBEDDINGS, own, slices)
    if MARK not in names or not any(name.startswith("img_query_model.") for name in names):
        return None
    for mark, part in (("visual.conv1.weight", "pictures"), (f"{_TEXT}token_embedding.weight", "texts")):
        if mark not in names:
            raise InputError(
                f"{raw.path}: a CLIP+FDT whose tower of {part} is none of CLIP's own kind (there is no '{mark}'), "
                "which is not supported."
            )
    slices = {}
    for name in names:
        if not _UNREAD.fullmatch(name):
            slices |= dict(new_names(name, name.removeprefix(_TEXT), raw.source.shape(name)))
    if "logit_scale" in slices:
        slices["logit_scale"] = TensorSlice("logit_scale", most=LARGEST)
    found = told(raw)
    config = checked_config(_config(raw, found), raw.path)
    notes = (f"Its codebook is read at the temperature {found.temperature:g}, by {found.file.name}.", NOTE)
    where = (raw, "original CLIP+FDT checkpoint", MODEL_TYPE, EMBEDDINGS, config, slices)
    files = words_beside((raw.path, found.file), config["text_config"])
    return Checkpoint.of(*where, extra_files=files, notes=notes)


def _config(raw: RawCheckpoint, found: Told) -> dict[str, Any]:
    """The sizes as the shapes have them. Raises InputError where the training's config says otherwise."""

    def shape(name: str) -> tuple[int, ...]:
        if name not in raw.source.names():
            raise InputError(f"{raw.path}: a CLIP+FDT without the weight '{name}'; the file is not whole.")
        return raw.source.shape(name)

    def layers(stack: str) -> int:
        pattern = re.compile(rf"{re.escape(stack)}transformer\.resblocks\.(\d+)\..*")
        return len({match[1] for name in raw.source.names() if (match := pattern.fullmatch(name)) is not None})

    width, patch = shape("visual.conv1.weight")[0], shape("visual.conv1.weight")[2]
    rows, (vocabulary, inner) = shape("visual.positional_embedding")[0], shape(f"{_TEXT}token_embedding.weight")
    places, (codes, size) = shape(f"{_TEXT}positional_embedding")[0], shape(MARK)
    depth, text_depth, side = layers("visual."), layers(_TEXT), patch * isqrt(rows - 1)
    found.check(
        {
            "image_encode.input_resolution": side,
            "image_encode.patch_size": patch,
            "image_encode.width": width,
            "image_encode.layers": depth,
            "text_encode.context_length": places,
            "text_encode.transformer_width": inner,
            "text_encode.transformer_layers": text_depth,
            "fdt.sd_num": codes,
            "fdt.sd_dim": size,
            "fdt.raw_img_ft_dim": width,
            "fdt.raw_txt_ft_dim": inner,
        }
    )
    return {
        "vision_config": {
            "image_size": side,
            "patch_size": patch,
            "hidden_size": width,
            "intermediate_size": shape("visual.transformer.resblocks.0.mlp.c_fc.weight")[0],
            "num_hidden_layers": depth,
            "num_attention_heads": found.heads("image_encode.heads", width),
        },
        "text_config": {
            "vocab_size": vocabulary,
            "max_position_embeddings": places,
            "hidden_size": inner,
            "intermediate_size": shape(f"{_TEXT}transformer.resblocks.0.mlp.c_fc.weight")[0],
            "num_hidden_layers": text_depth,
            "num_attention_heads": found.heads("text_encode.transformer_heads", inner),
        },
        "fdt_config": {"codes": codes, "width": size, "temperature": found.temperature, **found.codebook},
    }


def processor(config: Mapping[str, Any]) -> dict[str, Any]:
    """The original's pictures: of 256 pixels, bilinear, the middle 224 are cut out, by ImageNet's mean and deviation;
    the same shares for another size."""
    side = min(sides_of(config["vision_config"]["image_size"]))
    return transform("imagenet", side) | {"size": {"shortest_edge": round(side * 256 / 224)}, "resample": 2}
