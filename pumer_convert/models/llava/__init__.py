"""LLaVA as transformers saves it (Liu et al., CVPR 2024): a CLIP or SigLIP tower and a projector, whose outputs stand
among the words of a language model. The vision part alone is read and converted.

Sites: `vision.0` .. `vision.21` of the 23 blocks that a tower of 24 has in use, inside them, between attention and
feed-forward, and `projector`, on what the projector takes or on what it gives.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from pumer_convert.models.family import Family, Interpolation
from pumer_convert.models.inputs import Port
from pumer_convert.models.llava import formats
from pumer_convert.models.llava.config import PLACES, LlavaSettings, checked_config
from pumer_convert.models.rates import Rates
from pumer_convert.models.spec import Cost, GraphSpec, ImageSpec, Layer, Lengths, ModelSpec, grid, image_left, sides_of
from pumer_convert.models.towers.costs import image_layers, one_query

GRAPH, OUTPUT = "vision", "image_features"


class LlavaFamily(Family):
    """See `Family`."""

    name = "llava"
    network = "pumer_convert.models.llava.network:Llava"
    known_by = ("multi_modal_projector.linear_1.weight",)
    image_processor = "LlavaImageProcessor"
    tokenizer = "llama"
    positions = "vision_tower.embeddings.position_embedding.weight"
    image_section = "vision_config"
    rates: ClassVar[Mapping[str, Rates]] = {}
    heads = ("multi_modal_projector.",)
    generation = "pumer_convert.models.llava.generation"

    recognise = staticmethod(formats.recognise)
    checked = staticmethod(checked_config)
    processor = staticmethod(formats.processor)

    def interpolated(self, config: Mapping[str, Any]) -> Interpolation:
        """See `Family`: a tower without CLS has no place for it."""
        return replace(self.interpolation, first=int(LlavaSettings.read(config).cls))

    def spec(self, config: Mapping[str, Any], image_size: Any = None) -> ModelSpec:
        """See `Family`."""
        settings = LlavaSettings.read(config)
        vision, language = settings.vision, settings.language
        size = sides_of(image_size or vision.image_size)
        rows, columns = grid(size, vision.patch_size)
        tokens, wide, d = rows * columns + settings.cls, vision.hidden_size * len(settings.taps), language.hidden_size
        asked = {"cls_attention": one_query(vision.hidden_size)} if settings.cls and settings.blocks else {}
        each, first = wide * d + d * d, int(settings.cls or settings.trimmed)

        def projector(before: Lengths, after: Lengths) -> int:
            return each * after.image

        def projector_of_all(before: Lengths, after: Lengths) -> int:
            return each * before.image

        def features(width: int) -> Cost:
            return lambda before, after: before.image**2 * width

        def prefill(before: Lengths, after: Lengths) -> int:
            return language.prefill(before.image + before.text)

        tower = image_layers(
            replace(vision, num_hidden_layers=settings.blocks),
            vision.patch_size,
            rows * columns,
            GRAPH,
            cls=settings.cls,
            blocks=f"{formats.TOWER}encoder.layers.",
            before=(f"{formats.TOWER}embeddings.", f"{formats.TOWER}pre_layrnorm."),
        )
        layers = [
            replace(
                layer,
                part="tower",
                site=layer.site if i <= settings.sites else None,  # the patches are the first
                scores=layer.scores if settings.cls else {},
                frozen=first,
            )
            for i, layer in enumerate(tower)
        ]
        own = Layer(
            "projector",
            projector,
            "projector",
            {**asked, "features": features(wide)},
            modalities=("image",),
            width=wide,
            key_width=vision.hidden_size // vision.num_attention_heads,
            graph=GRAPH,
            weights=("multi_modal_projector.",),
            frozen=int(settings.cls and not settings.trimmed),
            leaves=int(settings.trimmed),
            part="projector",
        )
        behind = replace(own, cost=projector_of_all, scores={**asked, "features": features(d)}, width=d)
        layers.append(replace(own, after=behind))
        left = image_left(layers, tokens, config.get("pumer", {}).get("edits", ()))
        layers.append(Layer("language_model", prefill, graph="", part="language model"))
        output = Port(OUTPUT, "float32", ("batch", left, d))
        return ModelSpec(
            image_tokens=tokens,
            layers=tuple(layers),
            head=0,
            text=None,
            image=ImageSpec(size, vision.patch_size),
            graphs=(GraphSpec(GRAPH, (output,), text=False),),
            text_whole="the language model, which reads the text, stays as it is",
            prompt=language.max_position_embeddings or PLACES,
        )


FAMILY = LlavaFamily()
