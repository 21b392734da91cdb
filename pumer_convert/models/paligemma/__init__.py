"""PaliGemma and PaliGemma 2 as transformers saves them (Beyer et al., 2024): a SigLIP tower and a linear projector,
whose outputs stand before the words of a Gemma. The vision part alone is read and converted.

Sites: `vision.0` .. `vision.25` of the 27 blocks, inside them, between attention and feed-forward, and `projector`, on
what the projector takes or on what it gives.
"""

from collections.abc import Mapping
from typing import Any

from pumer_convert.models.family import Interpolation
from pumer_convert.models.paligemma.config import checked_config, settings_of
from pumer_convert.models.spec import sides_of
from pumer_convert.models.towers.folders import squashing
from pumer_convert.models.towers.vision_family import VisionPartFamily
from pumer_convert.models.towers.vision_part import VisionPart


class PaliGemmaFamily(VisionPartFamily):
    """See `Family`."""

    name, spelled = "paligemma", "PaliGemma"
    network = "pumer_convert.models.paligemma.network:PaliGemma"
    known_by = ("multi_modal_projector.linear.weight",)
    image_processor = "SiglipImageProcessor"
    tokenizer = "gemma"
    interpolation = Interpolation("bicubic", first=0)
    generation = "pumer_convert.models.paligemma.generation"

    checked = staticmethod(checked_config)

    def settings(self, config: Mapping[str, Any]) -> VisionPart:
        """See `VisionPartFamily`."""
        return settings_of(config)

    def processor(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family`."""
        return squashing(self.image_processor, sides_of(config["vision_config"]["image_size"]))


FAMILY = PaliGemmaFamily()
