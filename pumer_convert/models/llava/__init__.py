"""LLaVA as transformers saves it (Liu et al., CVPR 2024): a CLIP or SigLIP tower and a projector, whose outputs stand
among the words of a language model. The vision part alone is read and converted.

Sites: `vision.0` .. `vision.21` of the 23 blocks that a tower of 24 has in use, inside them, between attention and
feed-forward, and `projector`, on what the projector takes or on what it gives.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pumer_convert.models.family import Interpolation
from pumer_convert.models.llava import formats
from pumer_convert.models.llava.config import LlavaSettings, checked_config
from pumer_convert.models.spec import ModelSpec
from pumer_convert.models.towers.vision_part import VisionPartFamily, spec_of_part


class LlavaFamily(VisionPartFamily):
    """See `Family`."""

    name = "llava"
    network = "pumer_convert.models.llava.network:Llava"
    known_by = ("multi_modal_projector.linear_1.weight",)
    image_processor = "LlavaImageProcessor"
    tokenizer = "llama"
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
        d = settings.language.hidden_size
        each = settings.width * d + d * d
        return spec_of_part(settings, lambda tokens: each * tokens, config, image_size)


FAMILY = LlavaFamily()
