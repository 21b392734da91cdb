"""What METER's weights are: the names and shapes of `network.Meter`."""

from typing import Any

from pumer_convert.models.meter.formats import HEADS
from pumer_convert.models.outline import grid
from pumer_convert.models.parameters import Shapes, attention, feed_forward, head, linear, norm


def head_name(config: dict[str, Any]) -> str:
    """Where the head of a config's architecture lies."""
    return next(start[:-1] for start, _, architecture in HEADS if architecture == config["architectures"][0])


def parameters(config: dict[str, Any]) -> Shapes:
    """Names and shapes of every parameter that a config calls for."""
    c, wide = int(config["hidden_size"]), int(config["intermediate_size"])
    shapes = _vision(config) | _text(config["text"])
    shapes |= linear("cross_modal_text_transform", int(config["text"]["hidden_size"]), c)
    shapes |= linear("cross_modal_image_transform", int(config["vision"]["hidden_size"]), c)
    shapes["token_type_embeddings.weight"] = (int(config["modality_type_vocab_size"]), c)
    for side in ("text", "image"):
        for i in range(int(config["num_fusion_layers"])):
            half = f"cross_modal_{side}_layers.{i}"
            shapes |= attention(f"{half}.attention", c) | attention(f"{half}.crossattention", c)
            shapes |= feed_forward(half, c, wide)
        shapes |= linear(f"cross_modal_{side}_pooler.dense", c, c)
    name = head_name(config)
    if name == "rank_output":
        return shapes | linear(name, 2 * c, 1)
    pooled = 2 * c * (2 if name == "nlvr2_classifier" else 1)
    return shapes | head(name, pooled, 2 * c, len(config["id2label"]))


def _vision(config: dict[str, Any]) -> Shapes:
    vision, patch = config["vision"], int(config["patch_size"])
    c, wide = int(vision["hidden_size"]), int(vision["intermediate_size"])
    rows, columns = grid(config["image_size"], patch)
    tower = "vit_model.visual"
    shapes: Shapes = {
        f"{tower}.class_embedding": (c,),
        f"{tower}.positional_embedding": (rows * columns + 1, c),
        f"{tower}.conv1.weight": (c, 3, patch, patch),
        **norm(f"{tower}.ln_pre", c),
        **norm(f"{tower}.ln_post", c),
    }
    for i in range(int(vision["num_hidden_layers"])):
        block = f"{tower}.transformer.resblocks.{i}"
        shapes |= {f"{block}.attn.in_proj_weight": (3 * c, c), f"{block}.attn.in_proj_bias": (3 * c,)}
        shapes |= linear(f"{block}.attn.out_proj", c, c)
        shapes |= linear(f"{block}.mlp.c_fc", c, wide) | linear(f"{block}.mlp.c_proj", wide, c)
        shapes |= norm(f"{block}.ln_1", c) | norm(f"{block}.ln_2", c)
    return shapes


def _text(text: dict[str, Any]) -> Shapes:
    c = int(text["hidden_size"])
    words = "text_transformer.embeddings"
    shapes: Shapes = {
        f"{words}.word_embeddings.weight": (int(text["vocab_size"]), c),
        f"{words}.position_embeddings.weight": (int(text["max_position_embeddings"]), c),
        f"{words}.token_type_embeddings.weight": (int(text["type_vocab_size"]), c),
        **norm(f"{words}.LayerNorm", c),
    }
    for i in range(int(text["num_hidden_layers"])):
        layer = f"text_transformer.encoder.layer.{i}"
        shapes |= attention(f"{layer}.attention", c) | feed_forward(layer, c, int(text["intermediate_size"]))
    return shapes
