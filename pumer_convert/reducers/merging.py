"""What all kinds of merging share: how many merge, keys of length 1, means weighted by size."""

from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from pumer_convert.reducers.base import BaseReducer, Guide, Reduction, Size, how_many, wanted
from pumer_convert.reducers.traced import renewed
from pumer_convert.tokens import Tokens

NEVER = -2.0
"""Similarity of a pair that may not merge, below every cosine."""
EPSILON = 1e-12
"""Least norm of a key, so that a zero key is similar to nothing instead of undefined."""

HALF = """
        half = Div (n, two)
        least = Add (half, one)
"""
"""No more than half of the tokens merge away, as ONNX text for `how_many`."""

EACH = f"""
        present = Cast <to = 7> (mask)
        count = ReduceSum <keepdims = 0> (present, one)
        present_entry = Cast <to = 7> (entry)
        count_entry = ReduceSum <keepdims = 0> (present_entry, one)
        {wanted("wanted_each", "count_entry", "count")}
        spare_each = Sub (count, one)
        pairs_each = Div (spare_each, two)
        room_each = Max (pairs_each, zero)
        removed_each = Min (wanted_each, room_each)
        merged_each = Unsqueeze (removed_each, one)
        left_each = Sub (count, removed_each)
        survivors_each = Unsqueeze (left_each, one)
"""
"""How many of every example merge and are left, as ONNX text: `merged_each` and `survivors_each` [B, 1]."""

UNIT = f"""
        keys32 = Cast <to = 1> (keys)
        norm = ReduceL2 <keepdims = 1> (keys32, minus_one)
        epsilon = Constant <value = float[1] {{{EPSILON}}}> ()
        safe_norm = Max (norm, epsilon)
        unit = Div (keys32, safe_norm)
"""
"""Keys of length 1 in float32, `unit` [B, N, D], as ONNX text."""

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
    """Merges removed(n) tokens of each example into others, at most (n' - 1) // 2, as means weighted by token size; the
    order of the rest and token 0 are kept. n is the example's valid length at the entry of the step, n' its present
    one, so padding changes nothing.

    A kind chooses who merges into whom, and joins them.
    """

    inputs: ClassVar[tuple[str, ...]] = ("states", "keys", "size", "mask", "entry")
    outputs: ClassVar = {"merged_states": "states", "merged_size": "size", "merged_mask": "mask", "target": None}
    counts = how_many(HALF, "entry")

    @abstractmethod
    def decided(self, n: Size) -> Size:
        """The length of a decision about n tokens."""

    @abstractmethod
    def choose(self, tokens: Tokens, guide: Guide, most: int) -> tuple[Tensor, Tensor | None]:
        """The decision int64 [B, decided(N)] about `tokens`, of which `most` or fewer merge; -1 where nothing merges. A
        decision that `guide` gives comes back with its slack [B]."""

    @abstractmethod
    def join(self, tokens: Tokens, decision: Tensor, k: int) -> Tokens:
        """The tokens after a decision, cut to `k` places."""

    def forward(self, tokens: Tokens, guide: Guide) -> Reduction:
        """Merge by `tokens.keys` [B, N, D]; the result has no keys."""
        n = tokens.states.shape[1]
        n_entry = n if guide.entry is tokens.mask else guide.entry.shape[1]
        k = self.left(n_entry, n, n // 2 + 1)
        if isinstance(k, int) and k == n and guide.decision is None:
            none = torch.full((tokens.states.shape[0], self.decided(n)), -1, device=tokens.states.device)
            return Reduction(replace(tokens, keys=None), none)
        if torch.onnx.is_in_onnx_export():
            return self.traced(tokens, guide, k)
        decision, slack = self.choose(tokens, guide, int(n - k))
        return Reduction(self.join(tokens, decision, int(k)), decision, slack)

    def traced(self, tokens: Tokens, guide: Guide, k: Size) -> Reduction:
        """The same as a call of the ONNX function, with `k` tokens left."""
        states, (b, n, c) = tokens.states, tokens.states.shape
        out = self.call(
            (states, keys_of(tokens), tokens.sizes, tokens.mask, guide.entry),
            (states.dtype, torch.float32, torch.bool, torch.int64),
            ((b, k, c), (b, k), (b, k), (b, self.decided(n))),
        )
        return Reduction(renewed(Tokens(out[0], out[2], out[1])), out[3])

    def each(self, tokens: Tokens, guide: Guide) -> Tensor:
        """How many tokens of every example merge: int64 [B]."""
        count = tokens.mask.sum(1)
        return self.removed_each(guide.entry.sum(1), count, ((count - 1) // 2).clamp(min=0))


def keys_of(tokens: Tokens) -> Tensor:
    """What merging compares, [B, N, D]."""
    if tokens.keys is None:
        raise ValueError("merging needs the keys of the tokens")
    return tokens.keys
