"""VisionTextDualEncoderModel of transformers: a ViT or CLIP's tower for pictures beside a BERT or RoBERTa for texts, an
embedding each (the shape of COTS, Lu et al., CVPR 2022), transformers' names.

Sites: `vision.0` .. `vision.11`, inside the blocks of the tower of pictures, between attention and feed-forward.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from pumer_convert.models.family import Family
from pumer_convert.models.inputs import TextInput
from pumer_convert.models.rates import Rates
from pumer_convert.models.spec import ImageSpec, ModelSpec, grid, sides_of
from pumer_convert.models.towers.costs import VISION, image_layers, projection, text_layers
from pumer_convert.models.towers.graphs import joint, towers
from pumer_convert.models.towers.sections import VitPictures, kind_of
from pumer_convert.models.vision_text_dual_encoder import formats
from pumer_convert.models.vision_text_dual_encoder.config import CLIP, MODEL_TYPE, VIT, PairSettings, checked_config


class VisionTextDualEncoderFamily(Family):
    """See `Family`."""

    name = MODEL_TYPE
    network = "pumer_convert.models.vision_text_dual_encoder.network:VisionTextDualEncoder"
    known_by = (formats.MARK,)
    image_processor = "ViTImageProcessor"
    tokenizer = "bert"
    positions = "vision_model.embeddings.position_embeddings"
    image_section = "vision_config"
    rates: ClassVar[Mapping[str, Rates]] = {}
    heads = ("visual_projection.", "text_projection.")

    recognise = staticmethod(formats.recognise)
    checked = staticmethod(checked_config)
    processor = staticmethod(formats.processor)

    def tokenizer_of(self, config: Mapping[str, Any]) -> str:
        """See `Family`."""
        return kind_of(config, "text_config", self.tokenizer)

    def positions_of(self, config: Mapping[str, Any]) -> str:
        """See `Family`."""
        clip = kind_of(config, "vision_config", VIT) == CLIP
        return "vision_model.embeddings.position_embedding.weight" if clip else self.positions

    def spec(self, config: Mapping[str, Any], image_size: Any = None) -> ModelSpec:
        """See `Family`."""
        settings = PairSettings.read(config)
        vision, text, size = settings.vision, settings.text, settings.projection_dim
        image = ImageSpec(sides_of(image_size or vision.image_size), vision.patch_size)
        rows, columns = grid(image.size, image.patch)
        c, t, vit = vision.hidden_size, text.hidden_size, isinstance(vision, VitPictures)
        pooled = ("vision_model.layernorm.", "vision_model.pooler.") if vit else ("vision_model.post_layernorm.",)
        layers = [
            *image_layers(
                vision,
                image.patch,
                rows * columns,
                "image",
                cls=True,
                blocks="vision_model.encoder.layer." if vit else VISION,
            ),
            *text_layers(text, "text", "text_model.encoder.layer."),
            projection("image", c * size + c * c * vit, *pooled, "visual_projection."),
            projection("text", t * size + t * t, "text_model.pooler.", "text_projection."),
        ]
        return ModelSpec(
            image_tokens=rows * columns + 1,
            layers=tuple(layers),
            head=0,
            text=TextInput(text.vocab_size, text.longest, text.pad_token_id),
            image=image,
            graphs=towers({"image": size, "text": size}, embeds=True),
            text_whole="the text's tower meets no picture, so it is left whole",
            similarity="softmax",
            joint=joint(size),
        )


FAMILY = VisionTextDualEncoderFamily()
