"""What METER's weights are: the names and shapes of `network.Meter`."""

from typing import Any

from pumer_convert.models.meter.config import MeterSettings, TextSettings
from pumer_convert.models.parameters import Shapes, attention, feed_forward, head, linear, norm
from pumer_convert.models.spec import grid


def parameters(config: dict[str, Any]) -> Shapes:
    """Names and shapes of every parameter that a config calls for."""
    settings = MeterSettings.read(config)
    c = settings.hidden_size
    shapes = _vision(settings) | _text(settings.text)
    shapes |= linear("cross_modal_text_transform", settings.text.hidden_size, c)
    shapes |= linear("cross_modal_image_transform", settings.vision.hidden_size, c)
    shapes["token_type_embeddings.weight"] = (settings.modality_type_vocab_size, c)
    for side in ("text", "image"):
        for i in range(settings.num_fusion_layers):
            half = f"cross_modal_{side}_layers.{i}"
            shapes |= attention(f"{half}.attention", c) | attention(f"{half}.crossattention", c)
            shapes |= feed_forward(half, c, settings.intermediate_size)
        shapes |= linear(f"cross_modal_{side}_pooler.dense", c, c)
    if settings.head == "rank_output":
        return shapes | linear(settings.head, 2 * c, 1)
    return shapes | head(settings.head, 2 * c * settings.images, 2 * c, settings.labels)


def _vision(settings: MeterSettings) -> Shapes:
    vision, patch = settings.vision, settings.patch_size
    c, wide = vision.hidden_size, vision.intermediate_size
    rows, columns = grid(settings.image_size, patch)
    tower = "vit_model.visual"
    shapes: Shapes = {
        f"{tower}.class_embedding": (c,),
        f"{tower}.positional_embedding": (rows * columns + 1, c),
        f"{tower}.conv1.weight": (c, 3, patch, patch),
        **norm(f"{tower}.ln_pre", c),
        **norm(f"{tower}.ln_post", c),
    }
    for i in range(vision.num_hidden_layers):
        block = f"{tower}.transformer.resblocks.{i}"
        shapes |= {f"{block}.attn.in_proj_weight": (3 * c, c), f"{block}.attn.in_proj_bias": (3 * c,)}
        shapes |= linear(f"{block}.attn.out_proj", c, c)
        shapes |= linear(f"{block}.mlp.c_fc", c, wide) | linear(f"{block}.mlp.c_proj", wide, c)
        shapes |= norm(f"{block}.ln_1", c) | norm(f"{block}.ln_2", c)
    return shapes


def _text(text: TextSettings) -> Shapes:
    c = text.hidden_size
    words = "text_transformer.embeddings"
    shapes: Shapes = {
        f"{words}.word_embeddings.weight": (text.vocab_size, c),
        f"{words}.position_embeddings.weight": (text.max_position_embeddings, c),
        f"{words}.token_type_embeddings.weight": (text.type_vocab_size, c),
        **norm(f"{words}.LayerNorm", c),
    }
    for i in range(text.num_hidden_layers):
        layer = f"text_transformer.encoder.layer.{i}"
        shapes |= attention(f"{layer}.attention", c) | feed_forward(layer, c, text.intermediate_size)
    return shapes
