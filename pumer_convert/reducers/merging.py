"""What all kinds of merging share: how many merge, keys of length 1, means weighted by size."""

from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pumer_convert.reducers.base import BaseReducer, Guide, Reduction, Size, how_many, wanted
from pumer_convert.reducers.traced import renewed
from pumer_convert.tokens import Tokens, gather

NEVER = -2.0
"""Similarity of a pair that may not merge, below every cosine."""
EPSILON = 1e-12
"""Least norm of a key, so that a zero key is similar to nothing instead of undefined."""

HALF = """
        spared = Min (spare0, n)
        raised = Add (n, spared)
        least = Div (raised, two)
"""
"""`Merging.least` as ONNX text for `how_many`."""

EACH = f"""
        present = Cast <to = 7> (mask)
        count = ReduceSum <keepdims = 0> (present, one)
        present_entry = Cast <to = 7> (entry)
        count_entry = ReduceSum <keepdims = 0> (present_entry, one)
        {wanted("wanted_each", "count_entry", "count")}
        spared_each = Min (count, spare0)
        raised_each = Add (count, spared_each)
        least_each = Div (raised_each, two)
        room_each = Sub (count, least_each)
        removed_each = Min (wanted_each, room_each)
        merged_each = Unsqueeze (removed_each, one)
"""
"""How many of every example merge, as ONNX text: `merged_each` [B, 1]."""

UNIT = f"""
        keys32 = Cast <to = 1> (keys)
        norm = ReduceL2 <keepdims = 1> (keys32, minus_one)
        epsilon = Constant <value = float[1] {{{EPSILON}}}> ()
        safe_norm = Max (norm, epsilon)
        unit = Div (keys32, safe_norm)
"""
"""Keys of length 1 in float32, `unit` [B, N, D], as ONNX text."""

COSINE = f"""
        {UNIT}
        turned = Transpose <perm = [0, 2, 1]> (unit)
        cosine = MatMul (unit, turned)
"""
"""The same and the cosines of all with all, `cosine` [B, N, N]."""

MIX = """
        row_size_a = Unsqueeze (size_a, one)
        mass = Mul (hot, row_size_a)
        gained = ReduceSum <keepdims = 0> (mass, two)
        grown = Add (size_b, gained)
        column_grown = Unsqueeze (grown, two)
        weight32 = Div (mass, column_grown)
        column_b = Unsqueeze (size_b, two)
        own32 = Div (column_b, column_grown)
        weight = CastLike (weight32, states)
        own = CastLike (own32, states)
        kept_part = Mul (states_b, own)
        gained_part = MatMul (weight, states_a)
        mixed = Add (kept_part, gained_part)
"""
"""Means weighted by size, as ONNX text: with `hot` [B, B', A], who goes to whom, and the states and sizes of both sides
the states `mixed` [B, B', C] and sizes `grown` [B, B'] of those that take in."""


class Merging(BaseReducer):
    """Merges removed(n) tokens of each example into others, at most half of them (see `least`), as means weighted by
    token size; the order of the rest is kept. n is the example's valid length at the entry of the step, so padding
    changes nothing.

    A kind chooses who merges into whom.
    """

    inputs: ClassVar[tuple[str, ...]] = ("states", "keys", "size", "mask", "frozen", "entry")
    outputs: ClassVar = {
        "merged_states": "states",
        "merged_size": "size",
        "merged_mask": "mask",
        "merged_frozen": "frozen",
        "target": None,
    }
    counts = how_many(HALF, "entry")

    @classmethod
    def spare_of(cls, stays: int) -> int:
        """See `least`."""
        return max(2 * stays, 1)

    @classmethod
    def least(cls, n: Size, spare: int) -> Size:
        """How many of n tokens are left at the least: half, rounded up, and one more for each frozen token, of which
        all may stand on the side that merges into the other."""
        return (n + torch.sym_min(n, spare)) // 2  # type: ignore[no-untyped-call, no-any-return]

    @abstractmethod
    def decided(self, n: Size) -> Size:
        """The length of a decision about n tokens."""

    @abstractmethod
    def into(self, decision: Tensor, n: int) -> Tensor:
        """The place of the token that each of n merges into, int64 [B, n]; its own where it merges into none."""

    @abstractmethod
    def choose(self, tokens: Tokens, guide: Guide, most: int) -> tuple[Tensor, Tensor | None]:
        """The decision int64 [B, decided(N)] about `tokens`, of which `most` or fewer merge; -1 where nothing merges. A
        decision that `guide` gives comes back with its slack [B]."""

    def join(self, tokens: Tokens, decision: Tensor, k: int) -> Tokens:
        """The tokens after a decision, cut to `k` places; their source map is left to `places`."""
        states = tokens.states
        size = tokens.sizes.to(torch.promote_types(states.dtype, torch.float32))
        n = states.shape[1]
        place = torch.arange(n, device=decision.device)
        into = self.into(decision, n)
        goes = tokens.mask & (into != place)
        # Those that go, in their order, and where each goes; the rest of the places are none. Only these are mixed, by
        # a product, which sums in one order on every device.
        gone = torch.where(goes, place, place + n).sort(dim=1).values[:, : max(n - k, 1)]
        there, gone = gone < n, gone % n
        goal = into.gather(1, gone)
        hit = (goal[:, :, None] == goal[:, None, :]) & there[:, None, :]
        mass = hit * gather(size, gone)[:, None, :]
        old = gather(size, goal)
        grown = old + mass.sum(2)
        own, weight = (old / grown)[..., None].to(states.dtype), (mass / grown[..., None]).to(states.dtype)
        mixed = gather(states, goal) * own + weight @ gather(states, gone)
        # What several merge into is read from the first of them; what is none writes to a last column, then cut off.
        first = hit.to(torch.uint8).argmax(2) + n
        row = F.pad(place.expand_as(into), (0, 1)).scatter(1, torch.where(there, goal, n), first)[:, :n]
        alive = tokens.mask & ~goes
        kept = torch.where(alive, place, place + n).sort(dim=1).values[:, :k] % n
        rows = row.gather(1, kept)
        return replace(
            tokens,
            states=gather(torch.cat([states, mixed], 1), rows),
            mask=gather(alive, kept),
            size=gather(torch.cat([size, grown], 1), rows).float(),
            place=None if tokens.place is None else gather(tokens.place, kept),
            frozen=None if tokens.frozen is None else gather(tokens.frozen, kept),
        )

    def places(self, tokens: Tokens, decision: Tensor, k: int) -> Tensor:
        """Where each of the `tokens` is after a decision that leaves `k`, int64 [B, N]; -1: it was padding."""
        n = tokens.states.shape[1]
        into = self.into(decision, n)
        alive = tokens.mask & (into == torch.arange(n, device=into.device))
        return torch.where(alive, alive.cumsum(1) - 1, -1).gather(1, into)

    def forward(self, tokens: Tokens, guide: Guide) -> Reduction:
        """Merge by `tokens.keys` [B, N, D]; the result has no keys."""
        n = tokens.states.shape[1]
        n_entry = n if guide.entry is tokens.mask else guide.entry.shape[1]
        k = self.left(n_entry, n, tokens.stays)
        if isinstance(k, int) and k == n and guide.decision is None:
            none = torch.full((tokens.states.shape[0], self.decided(n)), -1, device=tokens.states.device)
            return Reduction(replace(tokens, keys=None), none)
        slack = None
        if torch.onnx.is_in_onnx_export():
            merged, decision = self.traced(tokens, guide, k)
        else:
            decision, slack = self.choose(tokens, guide, int(n - k))
            merged = self.join(tokens, decision, int(k))
        source = tokens.moved(lambda: self.places(tokens, decision, merged.states.shape[1]))
        return Reduction(replace(merged, source=source, keys=None), decision, slack)

    def traced(self, tokens: Tokens, guide: Guide, k: Size) -> tuple[Tokens, Tensor]:
        """`join` and the decision as a call of the ONNX function, with `k` tokens left."""
        states, (b, n, c) = tokens.states, tokens.states.shape
        out = self.call(
            tokens.stays,
            (states, keys_of(tokens), tokens.sizes, tokens.mask, tokens.held, guide.entry),
            (states.dtype, torch.float32, torch.bool, torch.bool, torch.int64),
            ((b, k, c), (b, k), (b, k), (b, k), (b, self.decided(n))),
        )
        frozen = None if tokens.frozen is None else out[3]
        merged = replace(tokens, states=out[0], size=out[1], mask=out[2], frozen=frozen, keys=None)
        return renewed(merged), out[4]

    def each(self, tokens: Tokens, guide: Guide) -> Tensor:
        """How many tokens of every example merge: int64 [B]."""
        count = tokens.mask.sum(1)
        spare = self.spare_of(tokens.stays)
        return self.removed_each(guide.entry.sum(1), count, count - (count + count.clamp(max=spare)) // 2)


def keys_of(tokens: Tokens) -> Tensor:
    """What is compared, [B, N, D]."""
    if tokens.keys is None:
        raise ValueError("a reduction needs the keys of the tokens")
    return tokens.keys


def unit_keys(tokens: Tokens) -> Tensor:
    """The same at length 1 (0 for what has none), in float32 or more exactly and without a gradient."""
    keys = keys_of(tokens).detach()
    return F.normalize(keys.to(torch.promote_types(keys.dtype, torch.float32)), dim=-1, eps=EPSILON)


def cosines(tokens: Tokens) -> Tensor:
    """Cosines of the keys of all with all, [B, N, N]."""
    unit = unit_keys(tokens)
    return unit @ unit.transpose(1, 2)
