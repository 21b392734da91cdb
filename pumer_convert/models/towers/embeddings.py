"""Patches and words with their positions, under transformers' names: what the towers of CLIP, SigLIP and (patches)
BridgeTower begin with."""

import torch
from torch import Tensor, nn

from pumer_convert.models.precision import Conv2d
from pumer_convert.models.towers.bert import table


class PatchEmbeddings(nn.Module):
    """`pixels` [B, 3, H, W] -> states [B, N, C], with a CLS token in front where there is a `class_embedding`."""

    def __init__(self, c: int, patch: int, patches: int, *, cls: bool, bias: bool) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.zeros(c)) if cls else None
        self.patch_embedding = Conv2d(3, c, patch, patch, bias=bias)
        self.position_embedding = table(patches + cls, c)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        if self.class_embedding is not None:
            x = torch.cat([self.class_embedding.expand(x.shape[0], 1, -1), x], 1)
        return x + self.position_embedding.weight  # type: ignore[no-any-return]


class WordEmbeddings(nn.Module):
    """`ids` [B, T] -> states [B, T, C]."""

    def __init__(self, words: int, places: int, c: int) -> None:
        super().__init__()
        self.token_embedding, self.position_embedding = table(words, c), table(places, c)

    def forward(self, ids: Tensor) -> Tensor:
        return self.token_embedding(ids) + self.position_embedding.weight[: ids.shape[1]]  # type: ignore[no-any-return]
