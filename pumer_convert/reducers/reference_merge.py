"""Merging as in the published PuMer code, quirks included (`semantics: reference`)."""

from typing import ClassVar

import torch
from torch import Tensor

from pumer_convert.reducers.base import BaseReducer, Guide, Reduction, how_many, in_order, ranks
from pumer_convert.reducers.merge import merge_slack, mixing, similarity
from pumer_convert.reducers.merging import HALF, NEVER, UNIT
from pumer_convert.tokens import Tokens, gather


class ReferenceMergeReducer(BaseReducer):
    """Plain means (sizes are not tracked), padding merges like text, result [unmerged even tokens; odd tokens].

    The float mask is averaged by the same merges, so it becomes fractional.
    """

    function = "MergeReference"

    inputs = ("states", "keys", "mask", "entry")
    outputs: ClassVar = {"merged_states": "states", "merged_mask": "mask", "target": None}
    counts = how_many(HALF, "entry")
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

    def forward(self, tokens: Tokens, guide: Guide) -> Reduction:
        """Merge by `tokens.keys` [B, N, D]; the result has no keys. `tokens.mask` is a float here."""
        if tokens.keys is None:
            raise ValueError("merging needs the keys of the tokens")
        n = tokens.states.shape[1]
        n_entry = n if guide.entry is tokens.mask else guide.entry.shape[1]
        k = self.left(n_entry, n, n // 2 + 1)
        if isinstance(k, int) and k == n and guide.decision is None:
            target = torch.full_like(tokens.size[:, ::2], -1, dtype=torch.int64)
            return Reduction(Tokens(tokens.states, tokens.mask, tokens.size, tokens.source), target)
        if torch.onnx.is_in_onnx_export():
            states, (b, _, c) = tokens.states, tokens.states.shape
            out = self.call(
                (states, tokens.keys, tokens.mask, guide.entry),
                (states.dtype, torch.float32, torch.int64),
                ((b, k, c), (b, k), (b, (n + 1) // 2)),
            )
            return Reduction(Tokens(out[0], out[1], torch.ones_like(out[1])), out[2])
        allowed = similarity(tokens.keys, torch.ones_like(tokens.mask, dtype=torch.bool))
        slack = None
        if guide.decision is None:
            rank = ranks(in_order(allowed.amax(2)))
            target = torch.where(rank < n - int(k), allowed.argmax(2), -1)
        else:
            target = guide.decision
            slack = merge_slack(allowed, torch.ones_like(tokens.mask), target)
        return Reduction(_join(tokens, target, n - int(k)), target, slack)


def _join(tokens: Tokens, target: Tensor, removed: int) -> Tokens:
    states, mask = tokens.states, tokens.mask
    precise = states.dtype if states.dtype == torch.float64 else torch.float32
    weight, own, _ = mixing(target, torch.ones_like(mask, dtype=precise))
    odd = states[:, 1::2] * own[..., None].to(states.dtype) + weight.to(states.dtype) @ states[:, ::2]
    odd_mask = mask[:, 1::2] * own + (weight @ mask[:, ::2, None].to(precise))[..., 0]
    gone = (target >= 0).long()
    stay = (gone * target.shape[1] + torch.arange(target.shape[1], device=target.device)).argsort(1)
    stay = stay[:, : target.shape[1] - removed]
    place_even = torch.full_like(target, -1).scatter(1, stay, torch.arange(stay.shape[1]).expand_as(stay))
    place_even = torch.where(target >= 0, target + stay.shape[1], place_even)
    place = torch.full(states.shape[:2], -1, device=target.device)
    place[:, ::2] = place_even
    place[:, 1::2] = torch.arange(odd.shape[1], device=target.device) + stay.shape[1]
    size = torch.cat([gather(tokens.size[:, ::2], stay), mixing(target, tokens.size)[2]], 1)
    return Tokens(
        torch.cat([gather(states[:, ::2], stay), odd], 1),
        torch.cat([gather(mask[:, ::2], stay), odd_mask.to(mask.dtype)], 1),
        size,
        tokens.moved(place),
    )
