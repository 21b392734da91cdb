"""METER: CLIP-ViT and RoBERTa towers under six pairs of fusion layers (Dou et al., CVPR 2022), the original's names.

Sites: `vision.0` .. `vision.10`, inside the blocks of the image's tower, before the text has met the image; and
`fusion.0` .. `fusion.5`. See `towers.fusion.fuse` for how a reduction enters a pair.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from pumer_convert.models.family import Family
from pumer_convert.models.inputs import TextInput
from pumer_convert.models.meter import formats
from pumer_convert.models.meter.config import MeterSettings, checked_config
from pumer_convert.models.rates import Rates
from pumer_convert.models.spec import ImageSpec, Layer, ModelSpec, grid, logits, sides_of
from pumer_convert.models.towers import sections as towers
from pumer_convert.models.towers.costs import fusion_layer, image_layers, text_layers


class MeterFamily(Family):
    """See `Family`. Rates are PuMer's; for retrieval, which it gives none for, those of METER's own configuration."""

    name = "meter"
    network = "pumer_convert.models.meter.network:Meter"
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

    recognise = staticmethod(formats.recognise)
    checked = staticmethod(checked_config)
    processor = staticmethod(formats.processor)

    def tokenizer_of(self, config: Mapping[str, Any]) -> str:
        """See `Family`."""
        return towers.kind_of(config, "text", self.tokenizer)

    def spec(self, config: Mapping[str, Any], image_size: Any = None) -> ModelSpec:
        """See `Family`."""
        settings = MeterSettings.read(config)
        c, inner = settings.hidden_size, settings.intermediate_size
        vision, text = settings.vision, settings.text
        v, t = vision.hidden_size, text.hidden_size
        patch, pairs, heads = settings.patch_size, settings.num_fusion_layers, settings.num_attention_heads
        rows, columns = grid(image_size or settings.image_size, patch)
        begin = tuple(f"vit_model.visual.{part}" for part in ("conv1.", "class_", "positional_", "ln_pre."))
        blocks = "vit_model.visual.transformer.resblocks."
        layers = image_layers(vision, patch, rows * columns, "model", cls=True, blocks=blocks, before=begin)
        layers += text_layers(text, "model", "text_transformer.encoder.layer.")
        both = tuple(f"cross_modal_{name}_transform." for name in ("text", "image"))
        layers.append(
            Layer("transforms", lambda before, after: v * c * before.image + t * c * before.text, weights=both)
        )
        for i in range(pairs):
            halves = tuple(f"cross_modal_{name}_layers.{i}." for name in ("text", "image"))
            sequential = settings.fusion_order == "sequential"
            layers.append(fusion_layer(i, pairs, c, inner, heads, sequential=sequential, weights=halves))
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
