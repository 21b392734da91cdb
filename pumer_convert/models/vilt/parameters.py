"""What ViLT's weights are: the names and shapes of `network.Vilt`."""

from typing import Any

from pumer_convert.models.parameters import Shapes, head, linear, norm
from pumer_convert.models.spec import grid
from pumer_convert.models.vilt.config import RETRIEVAL, ViltSettings


def parameters(config: dict[str, Any]) -> Shapes:
    """Names and shapes of every parameter that a config calls for."""
    settings = ViltSettings.read(config)
    c, wide, patch = settings.hidden_size, settings.intermediate_size, settings.patch_size
    rows, columns = grid(settings.image_size, patch)
    own, words = "vilt.embeddings", "vilt.embeddings.text_embeddings"
    shapes: Shapes = {
        f"{own}.cls_token": (1, 1, c),
        f"{own}.position_embeddings": (1, rows * columns + 1, c),
        f"{own}.patch_embeddings.projection.weight": (c, settings.num_channels, patch, patch),
        f"{own}.patch_embeddings.projection.bias": (c,),
        f"{own}.token_type_embeddings.weight": (settings.modality_type_vocab_size, c),
        f"{words}.word_embeddings.weight": (settings.vocab_size, c),
        f"{words}.position_embeddings.weight": (settings.max_position_embeddings, c),
        f"{words}.token_type_embeddings.weight": (settings.type_vocab_size, c),
        **norm(f"{words}.LayerNorm", c),
        **norm("vilt.layernorm", c),
        **linear("vilt.pooler.dense", c, c),
    }
    for i in range(settings.num_hidden_layers):
        block = f"vilt.encoder.layer.{i}"
        for part in ("query", "key", "value"):
            shapes |= linear(f"{block}.attention.attention.{part}", c, c, bias=settings.qkv_bias)
        shapes |= linear(f"{block}.attention.output.dense", c, c)
        shapes |= linear(f"{block}.intermediate.dense", c, wide) | linear(f"{block}.output.dense", wide, c)
        shapes |= norm(f"{block}.layernorm_before", c) | norm(f"{block}.layernorm_after", c)
    if settings.architecture == RETRIEVAL:
        return shapes | linear("rank_output", c, 1)
    return shapes | head("classifier", *settings.head, settings.labels)
