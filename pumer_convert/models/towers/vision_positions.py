"""Positions of a prompt's tokens as the dense model counts them."""

import torch
from torch import Tensor


def original_positions(pictures: Tensor, valid: Tensor, places: Tensor, dense: int, cached: int = 0) -> Tensor:
    """The position of each token of prompts, int64 [B, S], as if every picture had its `dense` tokens: those that are
    left of it keep their places, and the words behind it stand where they stood.

    `pictures` [B, S] bool says where tokens of pictures are and `valid` [B, S] bool where any is, padding on either
    side; `places` [P, N] int64 of all pictures, in the order of the prompts, is which of its dense tokens each is. The
    first `cached` tokens of every prompt are behind: places are of the pictures that follow, and positions of those
    before mean nothing. Padding has position 0. Renumbered from 0 to N - 1 the tokens would lie closer together than
    the language model has learnt, which costs most where places in the picture are asked for.
    """
    pictures = pictures & valid
    each = places.shape[1]
    number = pictures.cumsum(1) - pictures.long()  # of the picture's tokens before, in the prompt
    words = (valid & ~pictures).cumsum(1)
    before = (words - (valid & ~pictures).long()) + number // each * dense
    now = pictures & (torch.arange(pictures.shape[1], device=pictures.device) >= cached)
    overall = (now.flatten().cumsum(0) - 1).view_as(number).clamp(min=0)
    own = places.flatten()[overall.clamp(max=places.numel() - 1)] if places.numel() else torch.zeros_like(number)
    return torch.where(valid, before + torch.where(now, own, 0), 0)
