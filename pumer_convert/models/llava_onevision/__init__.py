"""LLaVA-OneVision as transformers saves it (Li et al., 2024): a picture and the tiles that it is cut into go through a
SigLIP tower and a projector each; the embeddings of the tiles are packed, unpadded, with a newline behind each row,
among the words of a language model. The vision part alone is read and converted, tile by tile; the packing, of which
the newline is a weight, stays with the language model.

Sites: `vision.0` .. `vision.24` of 26 blocks, inside them, between attention and feed-forward, and `projector`, on what
the projector takes or on what it gives.
"""

from collections.abc import Mapping
from typing import Any

from pumer_convert.models.llava_onevision.config import USUAL
from pumer_convert.models.spec import sides_of
from pumer_convert.models.towers.mlp_part import MlpFamily


class LlavaOnevisionFamily(MlpFamily):
    """See `Family`."""

    name, spelled = "llava_onevision", "LLaVA-OneVision"
    network = "pumer_convert.models.llava_onevision.network:LlavaOnevision"
    known_by = ("image_newline",)
    image_processor = "LlavaOnevisionImageProcessor"
    tokenizer = "qwen2"
    generation = "pumer_convert.models.llava_onevision.generation"
    usual = USUAL

    def processor(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family`: tiles as large as the model takes them."""
        height, width = sides_of(config["vision_config"]["image_size"])
        sides = range(1, 7)
        return {
            "image_processor_type": self.image_processor,
            "size": {"height": height, "width": width},
            "image_grid_pinpoints": [[i * height, j * width] for i in sides for j in sides],
        }


FAMILY = LlavaOnevisionFamily()
