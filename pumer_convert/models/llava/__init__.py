"""LLaVA as transformers saves it (Liu et al., CVPR 2024): a CLIP or SigLIP tower and a projector, whose outputs stand
among the words of a language model. The vision part alone is read and converted.

Sites: `vision.0` .. `vision.21` of the 23 blocks that a tower of 24 has in use, inside them, between attention and
feed-forward, and `projector`, on what the projector takes or on what it gives.
"""

from collections.abc import Mapping
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.models.llava.config import USUAL
from pumer_convert.models.spec import sides_of
from pumer_convert.models.towers.folders import cropping
from pumer_convert.models.towers.mlp_part import MlpFamily
from pumer_convert.weights import Checkpoint, RawCheckpoint


class LlavaFamily(MlpFamily):
    """See `Family`."""

    name, spelled = "llava", "LLaVA"
    network = "pumer_convert.models.llava.network:Llava"
    known_by = ("multi_modal_projector.linear_1.weight",)
    image_processor = "LlavaImageProcessor"
    tokenizer = "llama"
    generation = "pumer_convert.models.llava.generation"
    usual = USUAL

    def recognise(self, raw: RawCheckpoint) -> Checkpoint | None:
        """See `Family`. Raises InputError also for a LLaVA of the authors' own form."""
        if (tower := raw.config.get("mm_vision_tower")) is not None:
            raise InputError(
                f"{raw.path}: a LLaVA of its authors' own program, for a tower that lies elsewhere ({tower}); take it "
                "as transformers saves it, such as llava-hf/llava-1.5-7b-hf."
            )
        return super().recognise(raw)

    def processor(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family`."""
        return cropping(self.image_processor, sides_of(config["vision_config"]["image_size"]))


FAMILY = LlavaFamily()
