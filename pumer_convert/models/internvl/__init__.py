"""InternVL 2.5, 3 and 3.5 as transformers saves them (Zhu et al., 2025): a vision transformer of its own, a projector
that takes squares of its patches, and a language model. The vision part alone is read and converted; a picture in
several tiles is a batch of them.

Sites: `vision.0` .. `vision.22` of the 24 blocks, inside them, between attention and feed-forward: what merges there
comes back at its places before squares of patches become tokens; and `projector`, on these tokens, before or behind it.
"""

from collections.abc import Mapping
from typing import Any

from pumer_convert.models.internvl.config import InternVLSettings, checked_config
from pumer_convert.models.spec import sides_of
from pumer_convert.models.towers.folders import squashing
from pumer_convert.models.towers.vision_family import VisionPartFamily
from pumer_convert.models.towers.vision_part import TOWER, VisionPart

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
"""ImageNet's, which all published ones were trained with; the class of their processor has CLIP's."""


class InternVLFamily(VisionPartFamily):
    """See `Family`."""

    name, spelled = "internvl", "InternVL"
    network = "pumer_convert.models.internvl.network:InternVL"
    known_by = (f"{TOWER}encoder.layer.0.lambda_1",)
    positions = f"{TOWER}embeddings.position_embeddings"
    image_processor = "GotOcr2ImageProcessor"
    tokenizer = "qwen2"
    generation = "pumer_convert.models.internvl.generation"

    checked = staticmethod(checked_config)

    def settings(self, config: Mapping[str, Any]) -> VisionPart:
        """See `VisionPartFamily`."""
        return InternVLSettings.read(config)

    def processor(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family`."""
        size = sides_of(config["vision_config"]["image_size"])
        return {**squashing(self.image_processor, size), "image_mean": MEAN, "image_std": STD}

    def projected(self, settings: VisionPart) -> int:
        """See `VisionPartFamily`: two matrices."""
        return super().projected(settings) + settings.language.hidden_size**2


FAMILY = InternVLFamily()
