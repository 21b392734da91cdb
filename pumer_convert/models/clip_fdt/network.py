"""The CLIP+FDT network: CLIP's towers under transformers' names, the codebook's parts under the original's, reducers in
the blocks of the tower of pictures."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pumer_convert.models.clip_fdt.codebook import Query, weights
from pumer_convert.models.clip_fdt.config import FdtSettings
from pumer_convert.models.precision import like
from pumer_convert.models.spec import grid, sides_of
from pumer_convert.models.towers.clip_text import CausalText
from pumer_convert.models.towers.clip_vision import ClipTower
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
        vision, text, self.codebook = settings.vision, settings.text, settings.codebook
        self.image_size = sides_of(image_size or vision.image_size)
        rows, columns = grid(self.image_size, vision.patch_size)
        self.vision_model = ClipTower(vision, rows * columns, pooled=False)
        self.text_model, self.places = CausalText(text), text.max_position_embeddings
        self.img_query_model = Query(vision.hidden_size, self.codebook.width)
        self.txt_query_model = Query(text.hidden_size, self.codebook.width)
        self.space_dict = nn.Parameter(torch.zeros(self.codebook.codes, self.codebook.width))
        self.logit_scale = nn.Parameter(torch.zeros(1))

    def read_image(self, pixels: Tensor, trace: Trace) -> tuple[Tokens, Tensor]:
        """See `TwoTowerBody`. Patches are read without CLS; merged ones by their size where that makes a difference."""
        image = self.vision_model.tokens(pixels, self.step, trace, self.asked)
        q = self.img_query_model(image.states[:, 1:])
        if self.codebook.pool == "max":
            return image, self._embedded(self._scaled(self._products(q, self.space_dict).amax(1)))
        sizes = None if image.weights is None else image.weights[:, 1:]
        count = q.shape[1] if sizes is None else sizes.sum(1, keepdim=True)
        return image, self._embedded(self._summed(q, sizes, count))

    def read_text(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tokens, Tensor]:
        """See `TwoTowerBody`."""
        mask = attention_mask > 0
        x = self.text_model.final_layer_norm(self.text_model.states(input_ids, mask))
        return Tokens.start(x, mask), self._embedded(self._of_text(x, mask))

    def codes_of_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The weights of the codes in these texts, [B, M]: zeros at those that a text does not use."""
        mask = attention_mask > 0
        x = self.text_model.final_layer_norm(self.text_model.states(input_ids, mask))
        return weights(self._of_text(x, mask), self.codebook.attention)

    def _of_text(self, x: Tensor, mask: Tensor) -> Tensor:
        """The scores of the codes in texts. All places of the tower count, and those behind a text's end score 0."""
        q = self.txt_query_model(x)
        if self.codebook.pool != "max":
            return self._summed(q, mask.to(torch.float32), self.places)
        products = self._products(q, self.space_dict)
        products = products.masked_fill(~mask[..., None], torch.finfo(products.dtype).min)
        best, short = products.amax(1), mask.sum(1, keepdim=True) < self.places
        return self._scaled(torch.where(short, best.clamp(min=0), best))

    def asked(self, image: Tokens, step: SiteReducers) -> Tensor:
        """What the codebook takes from each token, [B, N] float32 without a gradient: the weights of the codes that are
        strongest in it, and less than nothing where there are none, the less the farther it is from being strongest in
        one that counts. As if the blocks ended here; CLS is not read."""
        reducer = step.prune["image"]
        assert isinstance(reducer, CodebookPruneReducer)
        codes = self.space_dict if reducer.codes is None else self.space_dict[reducer.codes]
        scores = self._scaled(self._products(self.img_query_model(image.states[:, 1:].detach()), codes.detach()))
        best = scores.amax(1)
        taken = weights(best, self.codebook.attention)[:, None]
        places = torch.arange(scores.shape[1], device=scores.device)
        # by number, for a score that is computed twice may not be equal to itself
        won = torch.where(scores.argmax(1)[:, None] == places[:, None], taken, 0).sum(2)
        least = torch.finfo(scores.dtype).min
        short = torch.where(taken > 0, scores - best[:, None], least).amax(2)
        return torch.cat([torch.zeros_like(won[:, :1]), won + short], 1).float().detach()

    def _products(self, q: Tensor, codes: Tensor) -> Tensor:
        """Of queries [..., D] with codes [M, D]."""
        return like(q, codes) @ codes.T

    def _scaled(self, products: Tensor) -> Tensor:
        """Scores, in float32 or more exactly."""
        exact = torch.promote_types(products.dtype, torch.float32)
        return products.to(exact) / (math.sqrt(self.codebook.width) * self.codebook.temperature)

    def _summed(self, q: Tensor, sizes: Tensor | None, count: Tensor | int) -> Tensor:
        """Scores of codes in all tokens together: a sum of products is the product of a sum."""
        exact = torch.promote_types(q.dtype, torch.float32)
        total = (q if sizes is None else q * sizes[..., None]).to(exact).sum(1)
        return self._scaled(self._products(total / count if self.codebook.pool == "mean" else total, self.space_dict))

    def _embedded(self, scores: Tensor) -> Tensor:
        """The embedding by codes of these scores [B, M], of any length. The largest weight is 1, as half precision has
        no numbers for many small ones."""
        taken = weights(scores, self.codebook.attention)
        return like(taken / taken.amax(-1, keepdim=True), self.space_dict) @ self.space_dict
