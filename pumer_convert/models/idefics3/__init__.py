"""Idefics3 as transformers saves it (Laurençon et al., 2024), and the first SmolVLMs, which are of its class: pictures
are cut into tiles, of each of which a SigLIP tower and a connector make tokens. The vision part alone is read and
converted.

Sites: `vision.0` .. `vision.25` of the 27 blocks, inside them, between attention and feed-forward: what merges there
comes back at its places before the connector shuffles squares of patches into tokens; and `projector`, on those, before
or behind its matrix.
"""

from pumer_convert.models.towers.tiles import TilesFamily


class Idefics3Family(TilesFamily):
    """See `Family`."""

    name, spelled = "idefics3", "Idefics3"
    architectures = ("Idefics3ForConditionalGeneration", "Idefics3Model")
    image_processor = "Idefics3ImageProcessor"
    generation = "pumer_convert.models.idefics3.generation"


FAMILY = Idefics3Family()
