"""CLIP: a tower for pictures and one for texts, an embedding each (Radford et al., ICML 2021), transformers' names.

Sites: `vision.0` .. `vision.11`, inside the blocks of the tower of pictures, between attention and feed-forward; the
text's tower is causal and read at its end, and has none.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from pumer_convert.models.clip import formats
from pumer_convert.models.clip.config import WHOLE_MODEL, ClipSettings, checked_config
from pumer_convert.models.family import Family
from pumer_convert.models.inputs import TextInput
from pumer_convert.models.rates import Rates
from pumer_convert.models.spec import ImageSpec, Layer, ModelSpec, grid, sides_of
from pumer_convert.models.towers.costs import image_layers, projection, text_layers
from pumer_convert.models.towers.graphs import joint, towers


class ClipFamily(Family):
    """See `Family`."""

    name = "clip"
    network = "pumer_convert.models.clip.network:Clip"
    known_by = (
        "vision_model.embeddings.class_embedding",
        "text_model.embeddings.token_embedding.weight",
        "visual.class_embedding",
    )
    image_processor = "CLIPImageProcessor"
    tokenizer = "clip"
    positions = "vision_model.embeddings.position_embedding.weight"
    image_section = "vision_config"
    rates: ClassVar[Mapping[str, Rates]] = {}
    heads = ("visual_projection.", "text_projection.")

    recognise = staticmethod(formats.recognise)
    checked = staticmethod(checked_config)
    processor = staticmethod(formats.processor)

    def spec(self, config: Mapping[str, Any], image_size: Any = None) -> ModelSpec:
        """See `Family`."""
        settings = ClipSettings.read(config)
        vision, text = settings.vision, settings.text
        layers: list[Layer] = []
        widths: dict[str, int] = {}
        tokens, image, outputs = 0, None, settings.projection_dim
        if vision is not None:
            size = sides_of(image_size or vision.image_size)
            rows, columns = grid(size, vision.patch_size)
            tokens, image = rows * columns + 1, ImageSpec(size, vision.patch_size)
            layers += image_layers(vision, vision.patch_size, rows * columns, "image", cls=True)
        if text is not None:
            layers += text_layers(text, "text")
        for name, tower, weights in (
            ("image", vision, "visual_projection."),
            ("text", text, "text_projection."),
        ):
            if tower is None:
                continue
            if outputs is not None:
                layers.append(projection(name, tower.hidden_size * outputs, weights))
            widths[name] = outputs or tower.hidden_size
        whole = settings.architecture == WHOLE_MODEL
        return ModelSpec(
            image_tokens=tokens,
            layers=tuple(layers),
            head=0,
            text=None if text is None else TextInput(text.vocab_size, text.max_position_embeddings, end_id=text.end),
            image=image,
            graphs=towers(widths, embeds=outputs is not None),
            text_whole="the text's tower is causal and read at its end, so it is left whole",
            similarity="softmax" if whole else None,
            joint=joint(outputs or 0) if whole else None,
        )


FAMILY = ClipFamily()
