"""The CLIP+FDT network: CLIP's towers under transformers' names, the codebook's parts under the original's, reducers in
the blocks of the tower of pictures."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pumer_convert.models.clip_fdt.config import FdtSettings
from pumer_convert.models.spec import grid, sides_of
from pumer_convert.models.towers.clip_text import CausalText
from pumer_convert.models.towers.clip_vision import ClipTower
from pumer_convert.models.towers.codebook import Query, Reading
from pumer_convert.models.towers.dual import TwoTowerBody
from pumer_convert.reducers.codebook_prune import CodebookPruneReducer
from pumer_convert.reducers.site import SiteReducers, Trace
from pumer_convert.tokens import Tokens


class ClipFdt(TwoTowerBody):
    """Two towers that meet in a codebook alone. `pixel_values` [B, 3, H, W] -> image_embeds [B, D]; `input_ids` and
    `attention_mask` [B, T] -> text_embeds [B, D]; unit vectors."""

    vision_model: ClipTower
    text_model: CausalText

    def __init__(self, config: Mapping[str, Any], image_size: Any = None) -> None:
        super().__init__()
        self.config = dict(config)
        self.pictures = self.compared = True
        settings = FdtSettings.read(config)
        vision, text, book = settings.vision, settings.text, settings.codebook
        self.image_size = sides_of(image_size or vision.image_size)
        rows, columns = grid(self.image_size, vision.patch_size)
        self.vision_model = ClipTower(vision, rows * columns, pooled=False)
        self.text_model, self.places = CausalText(text), text.max_position_embeddings
        self.reading = Reading(book)
        self.img_query_model, self.txt_query_model = (Query(t.hidden_size, book.width) for t in (vision, text))
        self.space_dict = nn.Parameter(torch.zeros(book.codes, book.width))
        self.logit_scale = nn.Parameter(torch.zeros(1))

    def read_image(self, pixels: Tensor, trace: Trace) -> tuple[Tokens, Tensor]:
        """See `TwoTowerBody`. Patches are read without CLS."""
        image = self.vision_model.tokens(pixels, self.step, trace, self.asked)
        sizes = None if image.weights is None else image.weights[:, 1:]
        scores = self.reading.scores(self.img_query_model(image.states[:, 1:]), self.space_dict, sizes)
        return image, self.reading.embedding(scores, self.space_dict)

    def read_text(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tokens, Tensor]:
        """See `TwoTowerBody`."""
        text = self._words(input_ids, attention_mask > 0)
        return text, self.reading.embedding(self._scores(text), self.space_dict)

    def codes_of_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The weights of the codes in these texts, [B, M]: zeros at those that a text does not use."""
        return self.reading.weights(self._scores(self._words(input_ids, attention_mask > 0)))

    def _words(self, ids: Tensor, mask: Tensor) -> Tokens:
        return Tokens.start(self.text_model.final_layer_norm(self.text_model.states(ids, mask)), mask)

    def _scores(self, text: Tokens) -> Tensor:
        """Of the codes in texts. All places of the tower count, those behind a text's end too."""
        q = self.txt_query_model(text.states)
        return self.reading.scores(q, self.space_dict, text.mask.to(torch.float32), self.places)

    def asked(self, image: Tokens, step: SiteReducers) -> Tensor:
        """What the codebook would take from each token if the blocks ended here, [B, N] float32 without a gradient. CLS
        is not read."""
        reducer = step.prune["image"]
        assert isinstance(reducer, CodebookPruneReducer)
        codes = self.space_dict if reducer.codes is None else self.space_dict[reducer.codes]
        taken = self.reading.takes(self.img_query_model(image.states[:, 1:].detach()), codes).detach()
        return torch.cat([torch.zeros_like(taken[:, :1]), taken], 1)
