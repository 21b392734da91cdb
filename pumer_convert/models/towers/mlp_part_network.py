"""The vision part of LLaVA's kind: its projector, and the tower before it."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from pumer_convert.models.activations import FUNCTIONS
from pumer_convert.models.precision import Linear
from pumer_convert.models.towers.mlp_part import MlpPart, Usual
from pumer_convert.models.towers.vision_part_network import VisionPartBody


class Projector(nn.Module):
    """Features [B, N, C] of the tower -> embeddings [B, N, D] of the language model."""

    def __init__(self, settings: MlpPart) -> None:
        super().__init__()
        d = settings.language.hidden_size
        self.activation = FUNCTIONS[settings.activation]
        self.linear_1 = Linear(settings.width, d, bias=settings.bias)
        self.linear_2 = Linear(d, d, bias=settings.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(self.activation(self.linear_1(x)))  # type: ignore[no-any-return]


class MlpBody(VisionPartBody):
    """See `VisionPartBody`."""

    usual: ClassVar[Usual]

    def __init__(self, config: Mapping[str, Any], image_size: Any = None) -> None:
        settings = MlpPart.read(config, self.usual)
        super().__init__(config, settings, Projector(settings), image_size)
