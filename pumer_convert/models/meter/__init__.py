"""METER: CLIP-ViT and RoBERTa towers under six pairs of fusion layers (Dou et al., CVPR 2022), the original's names.

Sites: `vision.0` .. `vision.10`, inside the blocks of the image's tower, before the text has met the image; and
`fusion.0` .. `fusion.5`. See `towers.fusion.fuse` for how a reduction enters a pair.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pumer_convert.models.family import Family
from pumer_convert.models.inputs import TextInput
from pumer_convert.models.meter import formats
from pumer_convert.models.meter.config import MeterSettings, checked
from pumer_convert.models.rates import Rates
from pumer_convert.models.spec import ImageSpec, Layer, ModelSpec, grid, logits, sides_of
from pumer_convert.models.towers import sections as towers
from pumer_convert.models.towers.costs import block, fusion, fusion_scores, image_layers
from pumer_convert.weights import Checkpoint, RawCheckpoint

if TYPE_CHECKING:
    from pumer_convert.models.meter.network import Meter


class MeterFamily(Family):
    """See `Family`. Rates are PuMer's; for retrieval, which it gives none for, those of METER's own configuration."""

    name = "meter"
    known_by = ("vit_model.visual.positional_embedding",)
    image_processor = "CLIPImageProcessor"
    tokenizer = "roberta"
    positions = "vit_model.visual.positional_embedding"
    rates: ClassVar[Mapping[str, Rates]] = {
        "vqa": Rates(5e-6, 50, 5),
        "nlvr2": Rates(5e-6, 50, 5),
        "ve": Rates(2e-6, 10, 5),
        "retrieval": Rates(5e-6, 5, 5),
    }
    heads = ("vqa_classifier.", "snli_classifier.", "nlvr2_classifier.", "rank_output.")
    cross_modal = ("cross_modal_",)

    def recognise(self, raw: RawCheckpoint) -> Checkpoint | None:
        """See `Family`."""
        return formats.recognise(raw)

    def checked(self, config: Mapping[str, Any], where: object) -> dict[str, Any]:
        """See `Family`."""
        return checked(config, where)

    def tokenizer_of(self, config: Mapping[str, Any]) -> str:
        """See `Family`."""
        return towers.kind_of(config, "text", self.tokenizer)

    def build(self, config: dict[str, Any], image_size: Any = None) -> "Meter":
        """See `Family`."""
        from pumer_convert.models.meter.network import Meter

        return Meter(config, image_size)

    def processor(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family`."""
        return formats.processor(config)

    def spec(self, config: Mapping[str, Any], image_size: Any = None) -> ModelSpec:
        """See `Family`."""
        settings = MeterSettings.read(config)
        c, inner = settings.hidden_size, settings.intermediate_size
        vision, text = settings.vision, settings.text
        v, t = vision.hidden_size, text.hidden_size
        patch = settings.patch_size
        rows, columns = grid(image_size or settings.image_size, patch)
        fused = fusion(c, inner, settings.fusion_order == "sequential")
        scores = fusion_scores(c)
        begin = tuple(f"vit_model.visual.{part}" for part in ("conv1.", "class_", "positional_", "ln_pre."))
        blocks = "vit_model.visual.transformer.resblocks."
        layers = image_layers(vision, patch, rows * columns, "model", cls=True, blocks=blocks, before=begin)
        t_wide = text.intermediate_size
        for i in range(text.num_hidden_layers):
            words = (f"text_transformer.encoder.layer.{i}.",)
            layers.append(
                Layer(f"text.{i}", lambda before, after: block(t, t_wide, before.text, before.text), weights=words)
            )
        both = tuple(f"cross_modal_{name}_transform." for name in ("text", "image"))
        layers.append(
            Layer("transforms", lambda before, after: v * c * before.image + t * c * before.text, weights=both)
        )
        pairs, key_width = settings.num_fusion_layers, c // settings.num_attention_heads
        for i in range(pairs):
            site, halves = f"fusion.{i}", tuple(f"cross_modal_{name}_layers.{i}." for name in ("text", "image"))
            layers.append(
                Layer(site, fused, site, scores, depth=i / pairs, width=c, key_width=key_width, weights=halves)
            )
        images = settings.images
        head = 2 * c if settings.head == "rank_output" else 2 * c * images * 2 * c + 2 * c * settings.labels
        return ModelSpec(
            image_tokens=rows * columns + 1,
            layers=tuple(layers),
            head=head + 2 * images * c * c,
            text=TextInput(vocabulary=text.vocab_size, longest=text.longest, pad_id=text.pad_token_id),
            image=ImageSpec(size=sides_of(image_size or settings.image_size), patch=patch, images=images),
            graphs=logits(settings.labels),
            published=True,
            head_weights=("cross_modal_text_pooler.", "cross_modal_image_pooler.", *self.heads),
        )


FAMILY = MeterFamily()
