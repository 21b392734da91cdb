"""Pruning by a codebook: what makes no code of an image stronger may go."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pumer_convert.amount import Amount
from pumer_convert.reducers.prune import PruneReducer


class CodebookPruneReducer(PruneReducer):
    """Prunes by what the codebook that makes an embedding of an image takes from each token; `codes` are the numbers of
    those that count, None: all."""

    codes: Tensor | None

    def __init__(self, amount: Amount, codes: Sequence[int] | None = None) -> None:
        super().__init__(amount)
        self.register_buffer("codes", None if codes is None else torch.tensor(codes), persistent=False)
