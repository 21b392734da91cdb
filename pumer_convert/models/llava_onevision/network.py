"""The vision part of LLaVA-OneVision: a tile of a picture in, the projector's embeddings of it out."""

from pumer_convert.models.llava_onevision.config import USUAL
from pumer_convert.models.towers.mlp_part_network import MlpBody


class LlavaOnevision(MlpBody):
    """See `VisionPartBody`; a picture is a tile."""

    usual = USUAL
