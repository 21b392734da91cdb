"""DINOv2, with registers or without: a tower for pictures alone (Oquab et al., 2023; Darcet et al., ICLR 2024),
transformers' names.

Sites: `vision.0` .. `vision.11`, inside the blocks, between attention and feed-forward. CLS and the registers stay. It
gives what transformers' class does: the state of CLS, and those of all patches, for which merged tokens are copied back
to where their patches stood.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from pumer_convert.models.dinov2 import formats
from pumer_convert.models.dinov2.config import Dinov2Settings, checked_config
from pumer_convert.models.family import Family, Interpolation
from pumer_convert.models.inputs import Port
from pumer_convert.models.rates import Rates
from pumer_convert.models.spec import GraphSpec, ImageSpec, ModelSpec, grid, sides_of
from pumer_convert.models.towers.costs import image_layers
from pumer_convert.models.towers.graphs import POOLED


class Dinov2Family(Family):
    """See `Family`."""

    name = "dinov2"
    network = "pumer_convert.models.dinov2.network:Dinov2"
    known_by = (formats.FIRST,)
    image_processor = "BitImageProcessor"
    tokenizer = None
    positions = "embeddings.position_embeddings"
    rates: ClassVar[Mapping[str, Rates]] = {}
    heads = ()

    recognise = staticmethod(formats.recognise)
    checked = staticmethod(checked_config)
    processor = staticmethod(formats.processor)

    def interpolated(self, config: Mapping[str, Any]) -> Interpolation:
        """See `Family`; transformers smooths where there are registers, and only there."""
        return Interpolation("bicubic", antialias=Dinov2Settings.read(config).num_register_tokens > 0)

    def spec(self, config: Mapping[str, Any], image_size: Any = None) -> ModelSpec:
        """See `Family`."""
        settings = Dinov2Settings.read(config)
        size = sides_of(image_size or settings.image_size)
        rows, columns = grid(size, settings.patch_size)
        tokens, c = rows * columns + settings.first, settings.hidden_size
        outputs = (
            Port(POOLED, "float32", ("batch", c)),
            Port("last_hidden_state", "float32", ("batch", tokens, c)),
        )
        names: dict[str, Any] = {"blocks": "encoder.layer.", "before": ("embeddings.",)}
        tower = image_layers(settings, settings.patch_size, rows * columns, "image", cls=True, **names)
        layers = [replace(layer, frozen=settings.first) for layer in tower]
        return ModelSpec(
            image_tokens=tokens,
            layers=tuple(layers),
            head=0,
            text=None,
            image=ImageSpec(size, settings.patch_size),
            graphs=(GraphSpec("image", outputs, text=False),),
            head_weights=("layernorm.",),
        )


FAMILY = Dinov2Family()
