"""The vision part of PaliGemma."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from pumer_convert.models.paligemma.config import settings_of
from pumer_convert.models.precision import Linear
from pumer_convert.models.towers.vision_part import VisionPart
from pumer_convert.models.towers.vision_part_network import VisionPartBody


class Projector(nn.Module):
    """Features [B, N, C] of the tower -> embeddings [B, N, D] of the language model."""

    def __init__(self, settings: VisionPart) -> None:
        super().__init__()
        self.linear = Linear(settings.width, settings.language.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)  # type: ignore[no-any-return]


class PaliGemma(VisionPartBody):
    """See `VisionPartBody`."""

    def __init__(self, config: Mapping[str, Any], image_size: Any = None) -> None:
        settings = settings_of(config)
        super().__init__(config, settings, Projector(settings), image_size)
