"""ViLT: one transformer over [text; image] (Kim et al., ICML 2021), with transformers' parameter names.

Sites: `encoder.0` .. `encoder.11`. A reduction stands inside the block, after the attention residual and before the
feed-forward; relevance is the attention of the text rows to the image columns; keys are the block's own.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pumer_convert.models.family import Family, Interpolation
from pumer_convert.models.inputs import TextInput
from pumer_convert.models.rates import Rates
from pumer_convert.models.spec import ImageSpec, Layer, Lengths, ModelSpec, grid, logits, sides_of
from pumer_convert.models.vilt import formats
from pumer_convert.models.vilt.config import RETRIEVAL, ViltSettings, checked
from pumer_convert.weights import Checkpoint, RawCheckpoint

if TYPE_CHECKING:
    from pumer_convert.models.vilt.network import Vilt

_PUMER = Rates(1e-4, 10, 1)


class ViltFamily(Family):
    """See `Family`. Rates are PuMer's; for retrieval, which it gives none for, those of ViLT's own configuration."""

    name = "vilt"
    known_by = ("vilt.embeddings.cls_token",)
    image_processor = "ViltImageProcessor"
    tokenizer = "vilt"
    positions = "vilt.embeddings.position_embeddings"
    interpolation = Interpolation("bilinear", align_corners=True)
    rates: ClassVar[Mapping[str, Rates]] = {
        "vqa": _PUMER,
        "nlvr2": _PUMER,
        "ve": _PUMER,
        "retrieval": Rates(1e-4, 1, 1),
    }
    heads = ("classifier.", "rank_output.")
    choices: ClassVar[Mapping[str, tuple[str | None, ...]]] = {"fit": (None, "squash")}

    def recognise(self, raw: RawCheckpoint) -> Checkpoint | None:
        """See `Family`."""
        return formats.recognise(raw)

    def checked(self, config: Mapping[str, Any], where: object) -> dict[str, Any]:
        """See `Family`."""
        return checked(config, where)

    def build(self, config: dict[str, Any], image_size: Any = None) -> "Vilt":
        """See `Family`."""
        from pumer_convert.models.vilt.network import Vilt

        return Vilt(config, image_size)

    def processor(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family`."""
        return formats.processor(config)

    def spec(self, config: Mapping[str, Any], image_size: Any = None) -> ModelSpec:
        """See `Family`."""
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
        layers = [
            Layer(
                "embeddings",
                lambda before, after: rows * columns * patch * patch * channels * c,
                weights=("vilt.embeddings.",),
            )
        ]
        for i in range(count):
            site = f"encoder.{i}"
            weights = (f"vilt.encoder.layer.{i}.",)
            layers.append(
                Layer(site, block, site, scores, depth=i / count, width=c, key_width=key_width, weights=weights)
            )
        wide, within = settings.head
        head = c if settings.architecture == RETRIEVAL else wide * within + within * settings.labels
        return ModelSpec(
            image_tokens=rows * columns + 1,
            layers=tuple(layers),
            head=head + settings.images * c * c,
            text=TextInput(
                vocabulary=settings.vocab_size,
                longest=settings.max_text_len or settings.max_position_embeddings,
                pad_id=settings.pad_token_id,
            ),
            image=ImageSpec(
                size=sides_of(image_size or settings.image_size),
                patch=patch,
                images=settings.images,
                keeps_shape=True,
                limit=settings.limit,
            ),
            graphs=logits(1 if settings.architecture == RETRIEVAL else settings.labels),
            published=True,
            head_weights=("vilt.layernorm.", "vilt.pooler.", *self.heads),
        )


FAMILY = ViltFamily()
