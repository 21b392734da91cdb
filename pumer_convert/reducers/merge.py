"""Modality-aware merging by bipartite soft matching on attention keys (PuMer, section 3.2; ToMe, section 3)."""

import torch
from torch import Tensor

from pumer_convert.reducers.base import Guide, Size, in_order, ranks
from pumer_convert.reducers.merging import EACH, MIX, NEVER, UNIT, Merging, unit_keys
from pumer_convert.tokens import Tokens


class MergeReducer(Merging):
    """Merges the most similar even-odd pairs.

    Tokens at even positions (but frozen ones) each look for the odd one with the most similar key; the most similar of
    them are merged into theirs. The decision [B, (N + 1) // 2] holds, of every even token, the odd one that it went to.
    """

    function = "Merge"

    # The rank of an even token is a second TopK over the order; merging is a one-hot MatMul with weights that
    # sum to 1 (no overflow in half precision); survivors are brought to the front by a TopK of their positions.
    statements = f"""
        {EACH}
        {UNIT}
        a = Slice (unit, zero, end, one, two)
        b = Slice (unit, one, end, one, two)
        bt = Transpose <perm = [0, 2, 1]> (b)
        similarity = MatMul (a, bt)
        mask_a = Slice (mask, zero, end, one, two)
        mask_b = Slice (mask, one, end, one, two)
        n_a = Shape <start = 1, end = 2> (a)
        n_b = Shape <start = 1, end = 2> (b)
        n_b0 = Squeeze (n_b)
        odds = Range (zero0, n_b0, one0)
        frozen_a = Slice (frozen, zero, end, one, two)
        frozen_b = Slice (frozen, one, end, one, two)
        movable_a = Not (frozen_a)
        free_a = And (mask_a, movable_a)
        column_a = Unsqueeze (free_a, two)
        row_b = Unsqueeze (mask_b, one)
        allowed = And (column_a, row_b)
        never = Constant <value = float[1] {{{NEVER}}}> ()
        masked = Where (allowed, similarity, never)
        best = ReduceMax <keepdims = 0> (masked, two)
        partner = ArgMax <axis = 2, keepdims = 0> (masked)
        best_sorted, order = TopK <axis = 1, largest = 1, sorted = 1> (best, n_a)
        order_sorted, rank = TopK <axis = 1, largest = 0, sorted = 1> (order, n_a)
        goes = Less (rank, merged_each)
        target = Where (goes, partner, minus_one)

        row_target = Unsqueeze (target, one)
        column_odds = Unsqueeze (odds, one)
        hit = Equal (row_target, column_odds)
        hot = Cast <to = 1> (hit)
        size_a = Slice (size, zero, end, one, two)
        size_b = Slice (size, one, end, one, two)
        states_a = Slice (states, zero, end, one, two)
        states_b = Slice (states, one, end, one, two)
        {MIX}
        all_states = Concat <axis = 1> (states_a, mixed)
        all_size = Concat <axis = 1> (size_a, grown)
        all_frozen = Concat <axis = 1> (frozen_a, frozen_b)
        n0 = Squeeze (n)
        place_a = Range (zero0, n0, two0)
        place_b = Range (one0, n0, two0)
        place = Concat <axis = 0> (place_a, place_b)
        stays = Not (goes)
        alive_a = And (mask_a, stays)
        alive = Concat <axis = 1> (alive_a, mask_b)
        behind = Add (place, n)
        sortable = Where (alive, place, behind)
        ascending, position = TopK <axis = 1, largest = 0, sorted = 1> (sortable, k)
        rows = Unsqueeze (position, minus_one)
        merged_states = GatherND <batch_dims = 1> (all_states, rows)
        merged_size = GatherND <batch_dims = 1> (all_size, rows)
        merged_frozen = GatherElements <axis = 1> (all_frozen, position)
        merged_mask = Less (ascending, n)
    """

    def decided(self, n: Size) -> Size:
        """See `Merging`."""
        return (n + 1) // 2

    def into(self, decision: Tensor, n: int) -> Tensor:
        """See `Merging`."""
        place = torch.arange(n, device=decision.device)
        partner = decision.gather(1, (place // 2).expand(decision.shape[0], n))
        return torch.where((place % 2 == 0) & (partner >= 0), 2 * partner + 1, place)

    def choose(self, tokens: Tokens, guide: Guide, most: int) -> tuple[Tensor, Tensor | None]:
        """See `Merging`."""
        allowed = similarity(unit_keys(tokens), tokens.mask, tokens.held)
        if guide.decision is not None:
            return guide.decision, merge_slack(allowed, tokens.mask, guide.decision)
        best, partner = allowed.amax(2), allowed.argmax(2)
        return torch.where(ranks(in_order(best)) < self.each(tokens, guide)[:, None], partner, -1), None


def similarity(unit: Tensor, mask: Tensor, frozen: Tensor) -> Tensor:
    """Cosines of even (rows) and odd (columns) tokens, [B, A, B'], from keys of length 1; NEVER where a pair may not
    merge."""
    cosines = unit[:, ::2] @ unit[:, 1::2].transpose(1, 2)
    free = mask[:, ::2] & ~frozen[:, ::2]
    return torch.where(free[:, :, None] & mask[:, None, 1::2], cosines, NEVER)


def merge_slack(allowed: Tensor, mask: Tensor, target: Tensor) -> Tensor:
    """How far a given target [B, A] is from the best one under similarities `allowed` [B, A, B'].

    The larger of: the best partner's lead over the given one; the most similar unmerged token's lead over the least
    similar merged one.
    """
    best = allowed.amax(2)
    merged = target >= 0
    given = allowed.gather(2, target.clamp(min=0)[..., None])[..., 0]
    partner_lead = torch.where(merged, best - given, 0.0).amax(1)
    least_merged = torch.where(merged, best, 2.0).amin(1)
    most_unmerged = torch.where(merged | ~mask[:, ::2].bool(), NEVER, best).amax(1)
    return torch.maximum(partner_lead, (most_unmerged - least_merged).clamp(min=0))


def mixing(target: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of a merge: even tokens into odd ones [B, B', A], odd ones' own [B, B'], and the odd ones' new sizes."""
    size_a, size_b = size[:, ::2], size[:, 1::2]
    odds = torch.arange(size_b.shape[1], device=target.device)
    mass = (target[:, None, :] == odds[None, :, None]) * size_a[:, None, :]
    grown = size_b + mass.sum(2)
    return mass / grown[..., None], size_b / grown, grown
