"""Gemma 3 as transformers saves it (Gemma Team, 2025), where it reads pictures: a SigLIP tower, a projector that pools
the grid of its patches, and a language model. The vision part alone is read and converted.

Sites: `vision.0` .. `vision.25` of the 27 blocks, inside them, between attention and feed-forward: what merges there
comes back at its places before the grid is pooled; and `projector`, on the pooled tokens, before or behind it.
"""

from collections.abc import Mapping
from typing import Any

from pumer_convert.models.family import Interpolation
from pumer_convert.models.gemma3 import formats
from pumer_convert.models.gemma3.config import checked_config, settings_of
from pumer_convert.models.spec import ModelSpec
from pumer_convert.models.towers.vision_part import VisionPartFamily, spec_of_part


class Gemma3Family(VisionPartFamily):
    """See `Family`."""

    name = "gemma3"
    network = "pumer_convert.models.gemma3.network:Gemma3"
    known_by = ("multi_modal_projector.mm_input_projection_weight",)
    image_processor = "Gemma3ImageProcessor"
    tokenizer = "gemma"
    interpolation = Interpolation("bicubic", first=0)
    generation = "pumer_convert.models.gemma3.generation"

    recognise = staticmethod(formats.recognise)
    checked = staticmethod(checked_config)
    processor = staticmethod(formats.processor)

    def spec(self, config: Mapping[str, Any], image_size: Any = None) -> ModelSpec:
        """See `Family`."""
        settings = settings_of(config)
        each = settings.width * settings.language.hidden_size
        return spec_of_part(settings, lambda tokens: each * tokens, config, image_size)


FAMILY = Gemma3Family()
