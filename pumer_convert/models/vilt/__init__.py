"""ViLT: one transformer over [text; image] (Kim et al., ICML 2021), with transformers' parameter names.

Sites: `encoder.0` .. `encoder.11`. A reduction stands inside the block, after the attention residual and before the
feed-forward; relevance is the attention of the text rows to the image columns; keys are the block's own.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from pumer_convert.models.family import Family, Interpolation
from pumer_convert.models.inputs import TextInput
from pumer_convert.models.rates import Rates
from pumer_convert.models.spec import ImageSpec, Layer, ModelSpec, grid, logits, sides_of
from pumer_convert.models.towers.costs import joint_layers
from pumer_convert.models.vilt import formats
from pumer_convert.models.vilt.config import RETRIEVAL, ViltSettings, checked_config


class ViltFamily(Family):
    """See `Family`. Rates are PuMer's; for retrieval, which it gives none for, those of ViLT's own configuration."""

    name = "vilt"
    network = "pumer_convert.models.vilt.network:Vilt"
    known_by = ("vilt.embeddings.cls_token",)
    image_processor = "ViltImageProcessor"
    tokenizer = "vilt"
    positions = "vilt.embeddings.position_embeddings"
    interpolation = Interpolation("bilinear", align_corners=True)
    rates: ClassVar[Mapping[str, Rates]] = {
        **dict.fromkeys(("vqa", "nlvr2", "ve"), Rates(1e-4, 10, 1)),
        "retrieval": Rates(1e-4, 1, 1),
    }
    heads = ("classifier.", "rank_output.")
    choices: ClassVar[Mapping[str, tuple[str | None, ...]]] = {"fit": (None, "squash")}

    recognise = staticmethod(formats.recognise)
    checked = staticmethod(checked_config)
    processor = staticmethod(formats.processor)

    def spec(self, config: Mapping[str, Any], image_size: Any = None) -> ModelSpec:
        """See `Family`."""
        settings = ViltSettings.read(config)
        c, patch = settings.hidden_size, settings.patch_size
        size = sides_of(image_size or settings.image_size)
        rows, columns = grid(size, patch)
        settings.check_limit(rows, columns)
        macs = rows * columns * patch * patch * settings.num_channels * c
        layers = [Layer("embeddings", lambda before, after: macs, weights=("vilt.embeddings.",))]
        layers += joint_layers(settings, "vilt.encoder.layer.")
        wide, within = settings.head
        head = c if settings.architecture == RETRIEVAL else wide * within + within * settings.labels
        return ModelSpec(
            image_tokens=rows * columns + 1,
            layers=tuple(layers),
            head=head + settings.images * c * c,
            text=TextInput(settings.vocab_size, settings.words.longest, settings.pad_token_id),
            image=ImageSpec(size, patch, settings.images, keeps_shape=True, limit=settings.limit),
            graphs=logits(1 if settings.architecture == RETRIEVAL else settings.labels),
            published=True,
            head_weights=("vilt.layernorm.", "vilt.pooler.", *self.heads),
        )


FAMILY = ViltFamily()
