"""The network of a VisionTextDualEncoderModel: transformers' names, reducers in the blocks of the tower of pictures."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pumer_convert.models.precision import Linear
from pumer_convert.models.spec import grid, sides_of
from pumer_convert.models.towers.bert import Bert
from pumer_convert.models.towers.clip_vision import ClipTower
from pumer_convert.models.towers.dual import TwoTowerBody
from pumer_convert.models.towers.sections import ClipPictures
from pumer_convert.models.towers.vit import VitTower
from pumer_convert.models.vision_text_dual_encoder.config import PairSettings
from pumer_convert.tokens import Tokens


class VisionTextDualEncoder(TwoTowerBody):
    """Two towers that never meet. `pixel_values` [B, 3, H, W] -> image_embeds [B, D]; `input_ids` and `attention_mask`
    [B, T] -> text_embeds [B, D]; unit vectors."""

    text_model: Bert

    def __init__(self, config: Mapping[str, Any], image_size: Any = None) -> None:
        super().__init__()
        self.config = dict(config)
        self.pictures = self.compared = True
        settings = PairSettings.read(config)
        vision, text, size = settings.vision, settings.text, settings.projection_dim
        self.image_size = sides_of(image_size or vision.image_size)
        rows, columns = grid(self.image_size, vision.patch_size)
        if isinstance(vision, ClipPictures):
            self.vision_model = ClipTower(vision, rows * columns)
        else:
            self.vision_model = VitTower(vision, rows * columns)
        self.text_model = Bert(text, pooler=True)
        self.visual_projection = Linear(vision.hidden_size, size, bias=False)
        self.text_projection = Linear(text.hidden_size, size, bias=False)
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def read_text(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tokens, Tensor]:
        """See `TwoTowerBody`."""
        mask = attention_mask > 0
        text = Tokens.start(self.text_model(input_ids, mask), mask)
        return text, self.text_model.pooler(text)
