"""Pruning for diversity among what is relevant: a conditional determinantal point process (CDPruner, Zhang et al.,
NeurIPS 2025), whose most probable set of k tokens is found greedily (Chen et al., NeurIPS 2018, algorithm 1).

The set is the one whose kernel L = r_i cos(i, j) r_j has the largest determinant: a token is worth the share of it that
those picked do not explain, times the square of its relevance r. The relevance is scaled to about 0 to 1 over the
tokens of an example (in the published code, of a batch); where none is given it is 1, and diversity alone decides.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pumer_convert.reducers.base import Guide
from pumer_convert.reducers.greedy import GreedyReducer, picking
from pumer_convert.reducers.prune import ABSENT, PROTECTED
from pumer_convert.tokens import Tokens

LEAST = 1e-5
"""A share below this is rounding: such tokens are explained alike, and their relevance and places decide."""
LOWEST = 1e-6
"""The lowest relevance."""


class CdPrunerReducer(GreedyReducer):
    """`guide.relevance` [B, N], if it is given, is the relevance before it is scaled; what is equal for all is none."""

    function = "CdPruner"

    inputs = ("states", "keys", "mask", "frozen", "relevance")
    statements = picking(
        setup=f"""
        trifle = Constant <value = float[1] {{{LEAST}}}> ()
        lift = Constant <value = float[1] {{{LOWEST}}}> ()
        movable = Not (frozen)
        free = And (mask, movable)
        for_highest = Where (free, relevance, absent)
        highest = ReduceMax <keepdims = 1> (for_highest, one)
        for_lowest = Where (free, relevance, protected)
        lowest = ReduceMin <keepdims = 1> (for_lowest, one)
        span = Sub (highest, lowest)
        uneven = Less (nothing, span)
        safe_span = Where (uneven, span, one32)
        above = Sub (relevance, lowest)
        lifted = Add (above, lift)
        scaled = Div (lifted, safe_span)
        quality = Where (uneven, scaled, one32)
        square = Mul (quality, quality)
        worth = Unsqueeze (square, one)
        share = Add (zeros, one32)
        k0_slots = Squeeze (k)
        slots = Range (zero0, k0_slots, one0)
        b_n = Shape (mask)
        b_n_k = Concat <axis = 0> (b_n, k)
        parts = Expand (nothing, b_n_k)
        """,
        score="""
                unexplained = Max (share_in, trifle)
                score = Mul (unexplained, worth)
        """,
        update="""
                of_best = Where (hit, share_in, nothing)
                share_of_best = ReduceMax <keepdims = 1> (of_best, two)
                safe_share = Max (share_of_best, trifle)
                root = Sqrt (safe_share)
                own_parts = GatherND <batch_dims = 1> (parts_in, best_row)
                own_column = Transpose <perm = [0, 2, 1]> (own_parts)
                explained_column = MatMul (parts_in, own_column)
                explained = Transpose <perm = [0, 2, 1]> (explained_column)
                unlike = Sub (row, explained)
                part = Div (unlike, root)
                part_column = Transpose <perm = [0, 2, 1]> (part)
                this_slot = Equal (slots, i)
                parts_out = Where (this_slot, part_column, parts_in)
                part_square = Mul (part, part)
                share_out = Sub (share_in, part_square)
        """,
        state={"share": "b, one_row, n", "parts": "b, n, k"},
    )

    def scores(self, tokens: Tokens, guide: Guide) -> Tensor:
        """The relevance before it is scaled; zeros where none is given."""
        none = torch.zeros_like(tokens.states[..., 0], dtype=torch.float32)
        return none if guide.relevance is None else guide.relevance

    def start(self, cosine: Tensor, tokens: Tokens, guide: Guide, k: int) -> Sequence[Tensor]:
        """See `GreedyReducer`: the squares of the relevance, the shares that are not explained, and what each pick
        explains of each token, [B, N, k]; the squares of that are what the shares have lost."""
        relevance, free = self.scores(tokens, guide), tokens.mask & ~tokens.held
        lowest = torch.where(free, relevance, PROTECTED).amin(1, keepdim=True)
        span = torch.where(free, relevance, ABSENT).amax(1, keepdim=True) - lowest
        scaled = (relevance - lowest + LOWEST) / torch.where(span > 0, span, 1)
        quality = torch.where(span > 0, scaled, 1).to(cosine.dtype)
        return quality.square(), torch.ones_like(quality), cosine.new_zeros(*cosine.shape[:2], k)

    def score(self, state: Sequence[Tensor], number: int) -> Tensor:
        """See `GreedyReducer`."""
        worth, rest, _ = state
        return rest.clamp(min=LEAST) * worth

    def update(self, state: Sequence[Tensor], row: Tensor, place: Tensor, number: int) -> Sequence[Tensor]:
        """See `GreedyReducer`."""
        worth, rest, parts = state
        own = parts.gather(1, place[..., None].expand(-1, 1, parts.shape[2]))
        part = (row - (parts @ own.transpose(1, 2))[..., 0]) / rest.gather(1, place).clamp(min=LEAST).sqrt()
        slot = torch.arange(parts.shape[2], device=parts.device) == number
        return worth, rest - part.square(), torch.where(slot, part[..., None], parts)
