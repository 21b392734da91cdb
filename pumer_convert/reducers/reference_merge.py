"""Merging as in the published PuMer code, quirks included (`semantics: reference`)."""

from typing import ClassVar

import torch
from torch import Tensor

from pumer_convert.reducers.base import Guide, Size, in_order, ranks
from pumer_convert.reducers.merge import MergeReducer, merge_slack, mixing, similarity
from pumer_convert.reducers.merging import NEVER, UNIT, keys_of, unit_keys
from pumer_convert.tokens import Tokens, gather


class ReferenceMergeReducer(MergeReducer):
    """Plain means (sizes are not tracked), padding merges like text, result [unmerged even tokens; odd tokens].

    The float mask is averaged by the same merges, so it becomes fractional.
    """

    function = "MergeReference"

    inputs = ("states", "keys", "mask", "entry")
    outputs: ClassVar = {"merged_states": "states", "merged_mask": "mask", "target": None}
    statements = f"""
        removed = Sub (n, k)
        {UNIT}
        a = Slice (unit, zero, end, one, two)
        b = Slice (unit, one, end, one, two)
        bt = Transpose <perm = [0, 2, 1]> (b)
        similarity = MatMul (a, bt)
        n_a = Shape <start = 1, end = 2> (a)
        n_b = Shape <start = 1, end = 2> (b)
        n_a0 = Squeeze (n_a)
        n_b0 = Squeeze (n_b)
        evens = Range (zero0, n_a0, one0)
        odds = Range (zero0, n_b0, one0)
        unprotected = Greater (evens, zero)
        free = Unsqueeze (unprotected, one)
        never = Constant <value = float[1] {{{NEVER}}}> ()
        masked = Where (free, similarity, never)
        best = ReduceMax <keepdims = 0> (masked, two)
        partner = ArgMax <axis = 2, keepdims = 0> (masked)
        best_sorted, order = TopK <axis = 1, largest = 1, sorted = 1> (best, n_a)
        order_sorted, rank = TopK <axis = 1, largest = 0, sorted = 1> (order, n_a)
        goes = Less (rank, removed)
        target = Where (goes, partner, minus_one)

        row_target = Unsqueeze (target, one)
        column_odds = Unsqueeze (odds, one)
        hit = Equal (row_target, column_odds)
        mass = Cast <to = 1> (hit)
        gained = ReduceSum <keepdims = 0> (mass, two)
        one32 = Constant <value = float[1] {{1.0}}> ()
        grown = Add (gained, one32)
        column_grown = Unsqueeze (grown, two)
        weight32 = Div (mass, column_grown)
        own32 = Div (one32, column_grown)
        weight = CastLike (weight32, states)
        own = CastLike (own32, states)
        states_a = Slice (states, zero, end, one, two)
        states_b = Slice (states, one, end, one, two)
        kept_part = Mul (states_b, own)
        gained_part = MatMul (weight, states_a)
        mixed = Add (kept_part, gained_part)
        mask_column = Unsqueeze (mask, two)
        mask_a = Slice (mask_column, zero, end, one, two)
        mask_b = Slice (mask_column, one, end, one, two)
        mask_kept = Mul (mask_b, own32)
        mask_gained = MatMul (weight32, mask_a)
        mask_mixed = Add (mask_kept, mask_gained)

        behind = Add (evens, n)
        sortable = Where (goes, behind, evens)
        unmerged_a = Sub (n_a, removed)
        k_a = Max (unmerged_a, one)
        ascending, position = TopK <axis = 1, largest = 0, sorted = 1> (sortable, k_a)
        rows = Unsqueeze (position, minus_one)
        unmerged = GatherND <batch_dims = 1> (states_a, rows)
        unmerged_mask = GatherND <batch_dims = 1> (mask_a, rows)
        merged_states = Concat <axis = 1> (unmerged, mixed)
        all_mask = Concat <axis = 1> (unmerged_mask, mask_mixed)
        merged_mask = Squeeze (all_mask, two)
    """

    @classmethod
    def spare_of(cls, stays: int) -> int:
        """Token 0 stays, whatever it is, and no other."""
        return 2

    def traced(self, tokens: Tokens, guide: Guide, k: Size) -> tuple[Tokens, Tensor]:
        """See `Merging`."""
        states, (b, n, c) = tokens.states, tokens.states.shape
        out = self.call(
            tokens.stays,
            (states, keys_of(tokens), tokens.mask, guide.entry),
            (states.dtype, torch.float32, torch.int64),
            ((b, k, c), (b, k), (b, self.decided(n))),
        )
        return Tokens(out[0], out[1]), out[2]

    def places(self, tokens: Tokens, decision: Tensor, k: int) -> Tensor:
        """See `Merging`: the even tokens that are left stand in front, the odd ones behind."""
        place = torch.arange(tokens.states.shape[1], device=decision.device).expand(tokens.states.shape[:2])
        number, goes = place // 2, decision >= 0
        behind = number + (k - tokens.states.shape[1] // 2)
        of_even = torch.where(goes, behind.gather(1, decision.clamp(min=0) * 2), (~goes).cumsum(1) - 1)
        return torch.where(place % 2 == 0, of_even.gather(1, number), behind)

    def choose(self, tokens: Tokens, guide: Guide, most: int) -> tuple[Tensor, Tensor | None]:
        """See `Merging`; `tokens.mask` is a float here and hides nothing."""
        everywhere = torch.ones_like(tokens.mask, dtype=torch.bool)
        first = torch.arange(everywhere.shape[1], device=everywhere.device) == 0
        allowed = similarity(unit_keys(tokens), everywhere, first.expand_as(everywhere))
        if guide.decision is not None:
            return guide.decision, merge_slack(allowed, everywhere, guide.decision)
        return torch.where(ranks(in_order(allowed.amax(2))) < most, allowed.argmax(2), -1), None

    def join(self, tokens: Tokens, decision: Tensor, k: int) -> Tokens:
        """See `Merging`."""
        removed = tokens.states.shape[1] - k
        states, mask = tokens.states, tokens.mask
        precise = states.dtype if states.dtype == torch.float64 else torch.float32
        weight, own, _ = mixing(decision, torch.ones_like(mask, dtype=precise))
        odd = states[:, 1::2] * own[..., None].to(states.dtype) + weight.to(states.dtype) @ states[:, ::2]
        odd_mask = mask[:, 1::2] * own + (weight @ mask[:, ::2, None].to(precise))[..., 0]
        gone = (decision >= 0).long()
        stay = (gone * decision.shape[1] + torch.arange(decision.shape[1], device=decision.device)).argsort(1)
        stay = stay[:, : decision.shape[1] - removed]
        size = torch.cat([gather(tokens.sizes[:, ::2], stay), mixing(decision, tokens.sizes)[2]], 1)
        return Tokens(
            torch.cat([gather(states[:, ::2], stay), odd], 1),
            torch.cat([gather(mask[:, ::2], stay), odd_mask.to(mask.dtype)], 1),
            size,
        )
