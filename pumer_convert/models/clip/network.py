"""The CLIP network: transformers' names, fused attention, reducers in the blocks of the tower of pictures."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pumer_convert.models.clip.config import WHOLE_MODEL, ClipSettings, TextSettings
from pumer_convert.models.precision import Linear
from pumer_convert.models.spec import grid, sides_of
from pumer_convert.models.towers.clip_text import CausalText
from pumer_convert.models.towers.clip_vision import ClipTower
from pumer_convert.models.towers.dual import TwoTowerBody
from pumer_convert.tokens import Tokens


class TextTower(CausalText):
    """What it pools is the end of each text, normed."""

    def __init__(self, settings: TextSettings) -> None:
        super().__init__(settings)
        self.end = settings.end

    def ends(self, ids: Tensor) -> Tensor:
        """Where each text of ids [B, T] ends, [B] int64: at its first token of that kind."""
        return (ids.int() if self.end is None else (ids == self.end).int()).argmax(-1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tokens, Tensor]:
        """See `TwoTowerBody`."""
        mask = attention_mask > 0
        x = self.states(input_ids, mask)
        pooled = x[torch.arange(x.shape[0], device=x.device), self.ends(input_ids)]
        return Tokens.start(x, mask), self.final_layer_norm(pooled)


class Clip(TwoTowerBody):
    """Two towers that never meet, or one of them. `pixel_values` [B, 3, H, W] -> image_embeds [B, D]; `input_ids` and
    `attention_mask` [B, T] -> text_embeds [B, D]: unit vectors in a model of both, and as transformers' class of the
    tower gives them in a model of one (pooler_output [B, C] where it has no projection)."""

    def __init__(self, config: Mapping[str, Any], image_size: Any = None) -> None:
        super().__init__()
        self.config = dict(config)
        settings = ClipSettings.read(config)
        size, self.compared = settings.projection_dim, settings.architecture == WHOLE_MODEL
        self.pictures = settings.vision is not None
        if settings.vision is not None:
            vision = settings.vision
            self.image_size = sides_of(image_size or vision.image_size)
            rows, columns = grid(self.image_size, vision.patch_size)
            self.vision_model = ClipTower(vision, rows * columns)
            if size is not None:
                self.visual_projection = Linear(vision.hidden_size, size, bias=False)
        if settings.text is not None:
            self.text_model = TextTower(settings.text)
            if size is not None:
                self.text_projection = Linear(settings.text.hidden_size, size, bias=False)
        if self.compared:
            self.logit_scale = nn.Parameter(torch.zeros(()))
