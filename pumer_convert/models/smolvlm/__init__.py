"""SmolVLM as transformers saves the second and later ones (Marafioti et al., 2025), where it reads pictures; the first
have Idefics3's class. The vision part alone is read and converted, and has Idefics3's sites: `vision.0` .. `vision.10`
of 12 blocks, and `projector`.
"""

from pumer_convert.models.towers.tiles import TilesFamily


class SmolVlmFamily(TilesFamily):
    """See `Family`."""

    name, spelled = "smolvlm", "SmolVLM"
    architectures = ("SmolVLMForConditionalGeneration", "SmolVLMModel")
    image_processor = "SmolVLMImageProcessor"
    generation = "pumer_convert.models.smolvlm.generation"


FAMILY = SmolVlmFamily()
