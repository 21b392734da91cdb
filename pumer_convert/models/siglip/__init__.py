"""SigLIP, and SigLIP 2 of one resolution: a tower for pictures and one for texts, an embedding each (Zhai et al., ICCV
2023; Tschannen et al., 2025), transformers' names.

Sites: `vision.0` .. `vision.11`, inside the blocks of the tower of pictures, between attention and feed-forward. There
is no CLS: every patch may go, and a head of attention pools what is left. The text's tower is read at its last place.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from pumer_convert.models.family import Family, Interpolation
from pumer_convert.models.inputs import TextInput
from pumer_convert.models.rates import Rates
from pumer_convert.models.siglip import formats
from pumer_convert.models.siglip.config import WHOLE_MODEL, SiglipSettings, checked_config
from pumer_convert.models.spec import ImageSpec, Layer, Lengths, ModelSpec, grid, sides_of
from pumer_convert.models.towers.costs import image_layers, text_layers
from pumer_convert.models.towers.graphs import joint, towers


class SiglipFamily(Family):
    """See `Family`."""

    name = "siglip"
    network = "pumer_convert.models.siglip.network:Siglip"
    known_by = (
        "vision_model.head.probe",
        "text_model.embeddings.token_embedding.weight",
        "visual.trunk.attn_pool.latent",
    )
    image_processor = "SiglipImageProcessor"
    tokenizer = "siglip"
    positions = "vision_model.embeddings.position_embedding.weight"
    image_section = "vision_config"
    interpolation = Interpolation("bicubic", first=0)
    rates: ClassVar[Mapping[str, Rates]] = {}
    heads = ("vision_model.head.", "text_model.head.")

    recognise = staticmethod(formats.recognise)
    checked = staticmethod(checked_config)
    processor = staticmethod(formats.processor)

    def plain_tokenizer(self, tokenizer: Any) -> Any:
        """See `Family`."""
        from pumer_convert.models.siglip.texts import plain_tokenizer

        return super().plain_tokenizer(tokenizer) or plain_tokenizer(tokenizer)

    def spec(self, config: Mapping[str, Any], image_size: Any = None) -> ModelSpec:
        """See `Family`."""
        settings = SiglipSettings.read(config)
        vision, text = settings.vision, settings.text
        layers: list[Layer] = []
        widths: dict[str, int] = {}
        tokens, image, words = 0, None, None
        both = settings.architecture == WHOLE_MODEL
        if vision is not None:
            size, c, inner = sides_of(image_size or vision.image_size), vision.hidden_size, vision.intermediate_size
            rows, columns = grid(size, vision.patch_size)
            tokens, image = rows * columns, ImageSpec(size, vision.patch_size)

            def head(before: Lengths, after: Lengths) -> int:
                return 2 * c * c * (before.image + 1) + 2 * before.image * c + 2 * c * inner

            layers += image_layers(vision, vision.patch_size, tokens, "image", cls=False)
            pooled = ("vision_model.post_layernorm.", "vision_model.head.")
            layers.append(Layer("image_head", head, graph="image", weights=pooled))
            widths["image"] = c
        if text is not None:
            macs = text.hidden_size * text.outputs
            places = text.max_position_embeddings
            words = TextInput(text.vocab_size, places, length=places, masked=False)
            layers += text_layers(text, "text")
            last = ("text_model.final_layer_norm.", "text_model.head.")
            layers.append(Layer("text_head", lambda before, after: macs, graph="text", weights=last))
            widths["text"] = text.outputs
        return ModelSpec(
            image_tokens=tokens,
            layers=tuple(layers),
            head=0,
            text=words,
            image=image,
            graphs=towers(widths, embeds=both),
            text_whole="the text's tower is read at its last place, so it is left whole",
            similarity="sigmoid" if both else None,
            joint=joint(text.outputs) if both and text is not None else None,
        )


FAMILY = SiglipFamily()
