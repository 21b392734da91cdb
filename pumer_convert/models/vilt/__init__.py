"""ViLT: one transformer over [text; image] (Kim et al., ICML 2021), with transformers' parameter names.

Sites: `encoder.0` .. `encoder.11`. A reduction stands inside the block, after the attention residual and before the
feed-forward; relevance is the attention of the text rows to the image columns; keys are the block's own.
"""

from typing import TYPE_CHECKING, Any

from pumer_convert.models.rates import Rates
from pumer_convert.models.spec import Layer, Lengths, ModelSpec, grid
from pumer_convert.models.vilt.config import RETRIEVAL, ViltSettings, checked
from pumer_convert.models.vilt.formats import processor, recognise

if TYPE_CHECKING:
    from torch import Tensor

    from pumer_convert.models.vilt.network import Vilt

__all__ = [
    "CROSS_MODAL",
    "HEADS",
    "IMAGE_PROCESSOR",
    "KEEPS_SHAPE",
    "KNOWN_BY",
    "POSITIONS",
    "RATES",
    "TOKENIZER",
    "build",
    "checked",
    "fit_positions",
    "processor",
    "recognise",
    "spec",
]

IMAGE_PROCESSOR = "ViltImageProcessor"
"""The class of transformers that a processor's file means when it names none."""
TOKENIZER = "vilt"
"""The model of transformers whose tokenizer the text has, where no file names another."""
KEEPS_SHAPE = True
RATES = {
    "vqa": Rates(1e-4, 10, 1),
    "nlvr2": Rates(1e-4, 10, 1),
    "ve": Rates(1e-4, 10, 1),
    "retrieval": Rates(1e-4, 1, 1),
}
"""PuMer's; for retrieval, which it gives no rates for, those of ViLT's own configuration."""
HEADS = ("classifier.", "rank_output.")
CROSS_MODAL = ()
"""How the names of parameters begin that learn faster."""
"""Whether pictures of several shapes can be in one batch."""
KNOWN_BY = ("vilt.embeddings.cls_token",)
POSITIONS = "vilt.embeddings.position_embeddings"
"""The table of the image's positions, [1, 1 + rows * columns, C]."""


def spec(config: dict[str, Any], image_size: Any = None) -> ModelSpec:
    """Layers and costs; `image_size` S or [H, W] instead of the checkpoint's own."""
    settings = ViltSettings.read(config)
    c, inner = settings.hidden_size, settings.intermediate_size
    patch, channels = settings.patch_size, settings.num_channels
    rows, columns = grid(image_size or settings.image_size, patch)
    settings.check_patches(rows, columns)

    def block(before: Lengths, after: Lengths) -> int:
        n, left = before.image + before.text, after.image + after.text
        return 4 * c * c * n + 2 * n * n * c + 2 * c * inner * left

    def relevance(before: Lengths, after: Lengths) -> int:
        return before.text * (before.text + before.image) * c

    def cls_attention(before: Lengths, after: Lengths) -> int:
        return (before.text + before.image) * c

    scores = {"relevance": relevance, "cls_attention": cls_attention}
    count, key_width = settings.num_hidden_layers, c // settings.num_attention_heads
    layers = [Layer("embeddings", lambda before, after: rows * columns * patch * patch * channels * c)]
    for i in range(count):
        site = f"encoder.{i}"
        layers.append(Layer(site, block, site, scores, depth=i / count, width=c, key_width=key_width))
    wide, within = settings.head
    head = c if settings.architecture == RETRIEVAL else wide * within + within * settings.labels
    return ModelSpec(
        image_tokens=rows * columns + 1,
        layers=tuple(layers),
        images_per_example=settings.images,
        head=head + settings.images * c * c,
        max_text=settings.max_text_len or settings.max_position_embeddings,
        vocabulary=settings.vocab_size,
    )


def build(config: dict[str, Any], image_size: Any = None) -> "Vilt":
    """The network, without weights of its own; needs torch."""
    from pumer_convert.models.vilt.network import Vilt

    return Vilt(config, image_size)


def fit_positions(name: str, tensor: "Tensor", config: dict[str, Any], image_size: Any) -> "Tensor":
    """`tensor` as the network for `image_size` wants it; bilinear with aligned corners, as ViLT does."""
    if name != POSITIONS:
        return tensor
    from pumer_convert.models.positions import resize_table

    old, new = (grid(size, int(config["patch_size"])) for size in (config["image_size"], image_size))
    return resize_table(tensor[0], old, new, mode="bilinear", align_corners=True)[None]
