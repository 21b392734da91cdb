"""PaliGemma and PaliGemma 2 as transformers saves them (Beyer et al., 2024): a SigLIP tower and a linear projector,
whose outputs stand before the words of a Gemma. The vision part alone is read and converted.

Sites: `vision.0` .. `vision.25` of the 27 blocks, inside them, between attention and feed-forward, and `projector`, on
what the projector takes or on what it gives.
"""

from collections.abc import Mapping
from typing import Any

from pumer_convert.models.family import Interpolation
from pumer_convert.models.paligemma import formats
from pumer_convert.models.paligemma.config import checked_config, settings_of
from pumer_convert.models.spec import ModelSpec
from pumer_convert.models.towers.vision_part import VisionPartFamily, spec_of_part


class PaliGemmaFamily(VisionPartFamily):
    """See `Family`."""

    name = "paligemma"
    network = "pumer_convert.models.paligemma.network:PaliGemma"
    known_by = ("multi_modal_projector.linear.weight",)
    image_processor = "SiglipImageProcessor"
    tokenizer = "gemma"
    interpolation = Interpolation("bicubic", first=0)
    generation = "pumer_convert.models.paligemma.generation"

    recognise = staticmethod(formats.recognise)
    checked = staticmethod(checked_config)
    processor = staticmethod(formats.processor)

    def spec(self, config: Mapping[str, Any], image_size: Any = None) -> ModelSpec:
        """See `Family`."""
        settings = settings_of(config)
        each = settings.width * settings.language.hidden_size
        return spec_of_part(settings, lambda tokens: each * tokens, config, image_size)


FAMILY = PaliGemmaFamily()
