"""Gemma 3 as transformers saves it (Gemma Team, 2025), where it reads pictures: a SigLIP tower, a projector that pools
the grid of its patches, and a language model. The vision part alone is read and converted.

Sites: `vision.0` .. `vision.25` of the 27 blocks, inside them, between attention and feed-forward: what merges there
comes back at its places before the grid is pooled; and `projector`, on the pooled tokens, before or behind it.
"""

from collections.abc import Mapping
from typing import Any

from pumer_convert.models.family import Interpolation
from pumer_convert.models.gemma3.config import checked_config, settings_of
from pumer_convert.models.spec import sides_of
from pumer_convert.models.towers.folders import squashing
from pumer_convert.models.towers.vision_family import VisionPartFamily
from pumer_convert.models.towers.vision_part import VisionPart


class Gemma3Family(VisionPartFamily):
    """See `Family`."""

    name, spelled = "gemma3", "Gemma 3"
    network = "pumer_convert.models.gemma3.network:Gemma3"
    known_by = ("multi_modal_projector.mm_input_projection_weight",)
    image_processor = "Gemma3ImageProcessor"
    tokenizer = "gemma"
    interpolation = Interpolation("bicubic", first=0)
    generation = "pumer_convert.models.gemma3.generation"

    checked = staticmethod(checked_config)

    def settings(self, config: Mapping[str, Any]) -> VisionPart:
        """See `VisionPartFamily`."""
        return settings_of(config)

    def processor(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family`."""
        return squashing(self.image_processor, sides_of(config["vision_config"]["image_size"]))


FAMILY = Gemma3Family()
