"""The vision part of Gemma 3."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pumer_convert.models.gemma3.config import settings_of
from pumer_convert.models.precision import RmsNorm, like
from pumer_convert.models.towers.vision_part import VisionPart
from pumer_convert.models.towers.vision_part_network import VisionPartBody


class Projector(nn.Module):
    """Pooled features [B, N, C] of the tower -> embeddings [B, N, D] of the language model."""

    def __init__(self, settings: VisionPart) -> None:
        super().__init__()
        c, d = settings.width, settings.language.hidden_size
        self.mm_input_projection_weight = nn.Parameter(torch.zeros(c, d))
        self.mm_soft_emb_norm = RmsNorm(c, settings.vision.layer_norm_eps, base=1.0)

    def forward(self, x: Tensor) -> Tensor:
        return like(self.mm_soft_emb_norm(x), self.mm_input_projection_weight) @ self.mm_input_projection_weight


class Gemma3(VisionPartBody):
    """See `VisionPartBody`."""

    def __init__(self, config: Mapping[str, Any], image_size: Any = None) -> None:
        settings = settings_of(config)
        super().__init__(config, settings, Projector(settings), image_size)
