"""What ViLT's weights are: the names and shapes of `network.Vilt`."""

from typing import Any

from pumer_convert.models.outline import grid
from pumer_convert.models.parameters import Shapes, head, linear, norm


def parameters(config: dict[str, Any]) -> Shapes:
    """Names and shapes of every parameter that a config calls for."""
    c, wide, patch = int(config["hidden_size"]), int(config["intermediate_size"]), int(config["patch_size"])
    rows, columns = grid(config["image_size"], patch)
    own, words = "vilt.embeddings", "vilt.embeddings.text_embeddings"
    shapes: Shapes = {
        f"{own}.cls_token": (1, 1, c),
        f"{own}.position_embeddings": (1, rows * columns + 1, c),
        f"{own}.patch_embeddings.projection.weight": (c, int(config.get("num_channels", 3)), patch, patch),
        f"{own}.patch_embeddings.projection.bias": (c,),
        f"{own}.token_type_embeddings.weight": (int(config.get("modality_type_vocab_size", 2)), c),
        f"{words}.word_embeddings.weight": (int(config["vocab_size"]), c),
        f"{words}.position_embeddings.weight": (int(config["max_position_embeddings"]), c),
        f"{words}.token_type_embeddings.weight": (int(config.get("type_vocab_size", 2)), c),
        **norm(f"{words}.LayerNorm", c),
        **norm("vilt.layernorm", c),
        **linear("vilt.pooler.dense", c, c),
    }
    for i in range(int(config["num_hidden_layers"])):
        block = f"vilt.encoder.layer.{i}"
        for part in ("query", "key", "value"):
            shapes |= linear(f"{block}.attention.attention.{part}", c, c, bias=config.get("qkv_bias", True))
        shapes |= linear(f"{block}.attention.output.dense", c, c)
        shapes |= linear(f"{block}.intermediate.dense", c, wide) | linear(f"{block}.output.dense", wide, c)
        shapes |= norm(f"{block}.layernorm_before", c) | norm(f"{block}.layernorm_after", c)
    kind = config["architectures"][0]
    if kind == "ViltForImageAndTextRetrieval":
        return shapes | linear("rank_output", c, 1)
    pairs = kind == "ViltForImagesAndTextClassification"
    pooled = c * int(config.get("num_images", 2)) if pairs else c
    labels = len(config.get("id2label") or {0: "", 1: ""})
    return shapes | head("classifier", pooled, pooled if pairs else 2 * c, labels)
