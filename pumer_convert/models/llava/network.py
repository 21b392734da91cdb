"""The vision part of LLaVA."""

from pumer_convert.models.llava.config import USUAL
from pumer_convert.models.towers.mlp_part_network import MlpBody


class Llava(MlpBody):
    """See `VisionPartBody`."""

    usual = USUAL
