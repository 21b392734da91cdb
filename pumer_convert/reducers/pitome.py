"""Merging by energy: tokens of large clusters merge, isolated ones are left alone (PiToMe, Tran et al., 2024)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pumer_convert.amount import Amount
from pumer_convert.reducers import MARGIN
from pumer_convert.reducers.base import Guide, Size, in_order
from pumer_convert.reducers.merging import COSINE, EACH, MIX, NEVER, Merging, unit_keys
from pumer_convert.tokens import Tokens, gather

FINE = 2**23
"""The likenesses to n tokens are counted in whole parts of FINE // n. A float32 sum of them is exact in every order of
summation, so that equal tokens tie in every runtime and at every padding, and their positions decide."""
WRONG = 2.0
"""Slack of a decision that could not have been taken at all."""


class PitomeReducer(Merging):
    """Merges the removed(n) pairs with the highest energies into means weighted by token size; the order is kept.

    The energy of a token is the mean over all tokens (but frozen ones) of elu(cosine of their keys - margin): high
    among many alike. By energy, descending, the first 2 * removed(n) tokens are dealt out in turns to A and B, and each
    of A merges into the most similar of B; all others stay (PiToMe, algorithm 1; its count is floor(n - share * n),
    ours the recipe's as everywhere). `margin` is that of this layer. n is the example's valid length at the entry of
    the step; padding changes nothing.

    The decision [B, N] holds, of a token of A, the place it merged into; of a token of B its own; of others -1.
    """

    function = "MergeByEnergy"
    attributes = "margin: float"

    # Only the pairs that merge are gathered, so that mixing costs pairs x pairs. Tokens of B take their new states
    # from rows that are appended to the old ones, in the one gather that brings the survivors to the front.
    statements = f"""
        {EACH}
        room = Sub (n, least)
        most = Min (wanted, room)
        pairs = Max (most, one)
        {COSINE}
        margin0 = Constant <value_float: float = @margin> ()
        over = Sub (cosine, margin0)
        likeness = Elu (over)
        n0 = Squeeze (n)
        places = Range (zero0, n0, one0)
        movable = Not (frozen)
        seen = And (mask, movable)
        seen64 = Cast <to = 7> (seen)
        seen_count = ReduceSum <keepdims = 1> (seen64, one)
        seen_some = Max (seen_count, one)
        fine = Constant <value = int64[1] {{{FINE}}}> ()
        parts = Div (fine, seen_some)
        parts32 = Cast <to = 1> (parts)
        all_parts = Mul (seen_some, parts)
        all_parts32 = Cast <to = 1> (all_parts)
        column_parts = Unsqueeze (parts32, two)
        scaled = Mul (likeness, column_parts)
        whole = Round (scaled)
        seen32 = Cast <to = 1> (seen)
        row_seen = Unsqueeze (seen32, one)
        heard = Mul (whole, row_seen)
        total = ReduceSum <keepdims = 0> (heard, two)
        mean = Div (total, all_parts32)
        never = Constant <value = float[1] {{{NEVER}}}> ()
        energy = Where (seen, mean, never)
        energy_sorted, order = TopK <axis = 1, largest = 1, sorted = 1> (energy, n)
        order_sorted, rank = TopK <axis = 1, largest = 0, sorted = 1> (order, n)

        both = Mul (pairs, two)
        a = Slice (order, zero, both, one, two)
        b = Slice (order, one, both, one, two)
        rows_a = Unsqueeze (a, minus_one)
        rows_b = Unsqueeze (b, minus_one)
        unit_a = GatherND <batch_dims = 1> (unit, rows_a)
        unit_b = GatherND <batch_dims = 1> (unit, rows_b)
        unit_bt = Transpose <perm = [0, 2, 1]> (unit_b)
        similarity = MatMul (unit_a, unit_bt)
        pairs0 = Squeeze (pairs)
        numbers = Range (zero0, pairs0, one0)
        active = Less (numbers, merged_each)
        row_active = Unsqueeze (active, one)
        masked = Where (row_active, similarity, never)
        partner = ArgMax <axis = 2, keepdims = 0> (masked)

        row_partner = Unsqueeze (partner, one)
        column_numbers = Unsqueeze (numbers, one)
        same = Equal (row_partner, column_numbers)
        hit = And (same, row_active)
        hot = Cast <to = 1> (hit)
        size_a = GatherND <batch_dims = 1> (size, rows_a)
        size_b = GatherND <batch_dims = 1> (size, rows_b)
        states_a = GatherND <batch_dims = 1> (states, rows_a)
        states_b = GatherND <batch_dims = 1> (states, rows_b)
        {MIX}
        all_states = Concat <axis = 1> (states, mixed)
        all_size = Concat <axis = 1> (size, grown)

        chosen_each = Mul (merged_each, two)
        chosen = Less (rank, chosen_each)
        side = Mod (rank, two)
        odd = Equal (side, one)
        even = Not (odd)
        is_b = And (chosen, odd)
        is_a = And (chosen, even)
        number = Div (rank, two)
        last = Sub (pairs, one)
        safe_number = Min (number, last)
        goals = GatherElements <axis = 1> (b, partner)
        goal = GatherElements <axis = 1> (goals, safe_number)
        own_place = Where (is_b, places, minus_one)
        target = Where (is_a, goal, own_place)

        stays = Not (is_a)
        alive = And (mask, stays)
        behind = Add (places, n)
        sortable = Where (alive, places, behind)
        ascending, position = TopK <axis = 1, largest = 0, sorted = 1> (sortable, k)
        appended = Add (number, n)
        row = Where (is_b, appended, places)
        row_kept = GatherElements <axis = 1> (row, position)
        rows = Unsqueeze (row_kept, minus_one)
        merged_states = GatherND <batch_dims = 1> (all_states, rows)
        merged_size = GatherND <batch_dims = 1> (all_size, rows)
        merged_frozen = GatherElements <axis = 1> (frozen, position)
        merged_mask = Less (ascending, n)
    """

    def __init__(self, amount: Amount, margin: float = MARGIN.default) -> None:
        super().__init__(amount)
        self.margin = margin

    def extra_repr(self) -> str:
        return f"{self.amount}, margin {self.margin:.4g}"

    def values(self, stays: int = 0) -> dict[str, Any]:
        """See `BaseReducer`; and the margin."""
        return {**super().values(stays), "margin": self.margin}

    def decided(self, n: Size) -> Size:
        """See `Merging`."""
        return n

    def into(self, decision: Tensor, n: int) -> Tensor:
        """See `Merging`."""
        return torch.where(decision >= 0, decision, torch.arange(n, device=decision.device))

    def choose(self, tokens: Tokens, guide: Guide, most: int) -> tuple[Tensor, Tensor | None]:
        """See `Merging`."""
        unit, each = unit_keys(tokens), self.each(tokens, guide)
        energy = energies(unit, tokens.mask & ~tokens.held, self.margin)
        if guide.decision is not None:
            return guide.decision, _slack(unit, energy, each, guide.decision)
        return _targets(unit, energy, each, most), None


def energies(unit: Tensor, seen: Tensor, margin: float) -> Tensor:
    """The energy of every token [B, N], from keys of length 1; NEVER where not `seen` [B, N], which no other hears."""
    count = seen.sum(1, keepdim=True).clamp(min=1)
    parts = FINE // count
    likeness = (F.elu(unit @ unit.transpose(1, 2) - margin) * parts[..., None]).round()
    mean = (likeness * seen[:, None, :]).sum(2) / (parts * count)
    return torch.where(seen, mean, NEVER)


def _targets(unit: Tensor, energy: Tensor, each: Tensor, pairs: int) -> Tensor:
    """The decision [B, N]; `each` [B] of the at most `pairs` pairs of every example merge."""
    order = in_order(energy)[:, : 2 * max(pairs, 1)]
    a, b = order[:, ::2], order[:, 1::2]
    active = torch.arange(b.shape[1], device=b.device) < each[:, None]
    cosines = gather(unit, a) @ gather(unit, b).transpose(1, 2)
    goal = b.gather(1, torch.where(active[:, None, :], cosines, NEVER).argmax(2))
    target = torch.full(energy.shape, -1, device=energy.device)
    target = target.scatter(1, a, torch.where(active, goal, -1))
    return target.scatter(1, b, torch.where(active, b, -1))


def _slack(unit: Tensor, energy: Tensor, each: Tensor, target: Tensor) -> Tensor:
    """How far a given decision [B, N] is from one that these energies and cosines allow: the largest of the lead in
    energy of a token left out over one chosen, of any two in the wrong turn of the deal, and of a similarity over the
    one that was taken."""
    places = torch.arange(target.shape[1], device=target.device)
    chosen, is_b = target >= 0, target == places
    is_a = chosen & ~is_b
    left_out = torch.where(chosen, NEVER, energy).amax(1) - torch.where(chosen, energy, WRONG).amin(1)
    a, b = (torch.where(side, energy, NEVER).sort(dim=1, descending=True).values for side in (is_a, is_b))
    turns = torch.maximum((b - a).amax(1), (a[:, 1:] - b[:, :-1]).amax(1))
    cosines = torch.where(is_b[:, None, :], unit @ unit.transpose(1, 2), NEVER)
    taken = cosines.gather(2, target.clamp(min=0)[..., None])[..., 0]
    partner = torch.where(is_a, cosines.amax(2) - taken, 0.0).amax(1)
    number = torch.where(chosen.sum(1) == 2 * each, 0.0, WRONG)
    return torch.stack([left_out, turns, partner, number.to(energy.dtype)]).amax(0).clamp(min=0)
