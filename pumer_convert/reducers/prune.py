"""Text-informed pruning: drop the image tokens that the text asks for least (PuMer, section 3.1)."""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from pumer_convert.reducers.base import BaseReducer, Guide, Reduction, how_many, in_order, wanted
from pumer_convert.reducers.merging import keys_of
from pumer_convert.reducers.traced import renewed
from pumer_convert.tokens import Tokens, gather

PROTECTED = 1e30
"""Score of frozen tokens, above every relevance."""
EPSILON = 1e-12
ABSENT = -1e30
"""Score of padding, below every relevance."""


EACH = f"""
        present = Cast <to = 7> (mask)
        count = ReduceSum <keepdims = 0> (present, one)
        {wanted("wanted_each", "count", "count")}
        spare_each = Sub (count, spare0)
        room_each = Max (spare_each, zero)
        removed_each = Min (wanted_each, room_each)
        left_each = Sub (count, removed_each)
        kept_each = Unsqueeze (left_each, one)
"""
"""How many of every example are kept, as ONNX text: `kept_each` [B, 1]."""


def take(filled: str = "kept_mask", each: str = "kept_each", states: str = "kept_states") -> str:
    """The outputs of `PruneReducer` as ONNX text, from the `best` [B, K] positions, of which `each` [B, 1] are taken: a
    TopK of the smallest of them restores the original order. What is past an example's own count gets its position
    plus N, so that it sorts behind the rest."""
    return f"""
        k0 = Squeeze (k)
        places = Range (zero0, k0, one0)
        {filled} = Less (places, {each})
        behind = Add (best, n)
        sortable = Where ({filled}, best, behind)
        ascending, unused = TopK <axis = 1, largest = 0, sorted = 1> (sortable, k)
        position = Mod (ascending, n)
        index = Where ({filled}, position, minus_one)

        rows = Unsqueeze (position, minus_one)
        {states} = GatherND <batch_dims = 1> (states, rows)
        kept_keys = GatherND <batch_dims = 1> (keys, rows)
"""


class PruneReducer(BaseReducer):
    """Keeps the n - removed(n) most relevant tokens of each example, in their original order.

    n counts the valid tokens of the example, so padding changes nothing; the places that an example does not fill
    stand at the end and are masked. A kind says by `scores` or by `best` what is kept.
    """

    function = "Prune"

    inputs: ClassVar[tuple[str, ...]] = ("states", "keys", "mask", "frozen", "relevance")
    outputs: ClassVar = {"kept_states": "states", "kept_keys": "keys", "kept_mask": "mask", "index": None}
    counts = how_many("least = Min (spare0, n)")
    statements = f"""
        {EACH}
        absent = Constant <value = float[1] {{{ABSENT}}}> ()
        protected = Constant <value = float[1] {{{PROTECTED}}}> ()
        spared_scores = Where (frozen, protected, relevance)
        scores = Where (mask, spared_scores, absent)
        best_scores, best = TopK <axis = 1, largest = 1, sorted = 1> (scores, k)
        {take()}
    """

    def scores(self, tokens: Tokens, guide: Guide) -> Tensor:
        """What is kept: the tokens of the highest scores, [B, N] float32."""
        if guide.relevance is None:
            raise ValueError("pruning needs a score of the tokens")
        return guide.relevance

    def asked(self, tokens: Tokens, guide: Guide) -> tuple[Tensor, ...]:
        """What the ONNX function is given behind the tokens."""
        return (self.scores(tokens, guide),)

    def best(self, tokens: Tokens, guide: Guide, k: int) -> Tensor:
        """The positions of the `k` tokens that are kept first, best first, [B, k]: padding behind all others."""
        return in_order(self.guarded(tokens, guide))[:, :k]

    def slack(self, tokens: Tokens, guide: Guide, index: Tensor) -> Tensor:
        """How much worse than its own the choice of the positions `index` [B, K] is, [B] (see `Reduction`)."""
        return slack_of(self.guarded(tokens, guide), index)

    def guarded(self, tokens: Tokens, guide: Guide) -> Tensor:
        """`scores` with frozen tokens above all others and padding below, [B, N] float32."""
        scores = self.scores(tokens, guide).float()
        return torch.where(tokens.mask, torch.where(tokens.held, PROTECTED, scores), ABSENT)

    def kept(self, tokens: Tokens) -> Tensor:
        """How many tokens of every example are kept, int64 [B]."""
        count = tokens.mask.sum(1)
        return count - self.removed_each(count, count, (count - self.spare_of(tokens.stays)).clamp(min=0))

    def forward(self, tokens: Tokens, guide: Guide) -> Reduction:
        """Keep the best; `tokens.keys` follow the tokens."""
        if torch.onnx.is_in_onnx_export():
            return self._traced(tokens, self.asked(tokens, guide))
        n = tokens.states.shape[1]
        if guide.decision is None:
            best = self.best(tokens, guide, int(self.left(n, n, tokens.stays)))
            index, slack = in_place(best, n, self.kept(tokens)[:, None]), None
        else:
            index, slack = guide.decision, self.slack(tokens, guide, guide.decision)
        states, keys = gather(tokens.states, index), gather(keys_of(tokens), index)
        return Reduction(taken(tokens, index, states, keys, index >= 0), index, slack)

    def _traced(self, tokens: Tokens, asked: tuple[Tensor, ...]) -> Reduction:
        states, keys = tokens.states, keys_of(tokens)
        b, n = states.shape[:2]
        k = self.left(n, n, tokens.stays)
        out = self.call(
            tokens.stays,
            (states, keys, tokens.mask, tokens.held, *asked),
            (states.dtype, keys.dtype, torch.bool, torch.int64),
            ((b, k, states.shape[2]), (b, k, keys.shape[2]), (b, k), (b, k)),
        )
        return Reduction(renewed(taken(tokens, out[3], out[0], out[1], out[2])), out[3])


def in_place(best: Tensor, n: int, count: Tensor) -> Tensor:
    """The first `count` [B, 1] of the positions `best` [B, K] among n, ascending, and then -1."""
    filled = torch.arange(best.shape[1], device=best.device) < count
    position = torch.where(filled, best, best + n).sort(dim=1).values % n
    return torch.where(filled, position, -1)


def taken(tokens: Tokens, index: Tensor, states: Tensor, keys: Tensor, mask: Tensor) -> Tokens:
    """The tokens at `index` [B, K], -1: an empty place. Their states [B, K, C], keys [B, K, D] and mask [B, K] are
    given: in a graph they are gathered inside the function."""
    return replace(
        tokens,
        states=states,
        mask=mask,
        size=None if tokens.size is None else gather(tokens.size, index),
        source=tokens.moved(lambda: places_of(index, tokens.states.shape[1])),
        place=None if tokens.place is None else gather(tokens.place, index),
        keys=keys,
        frozen=None if tokens.frozen is None else gather(tokens.frozen, index),
    )


def places_of(index: Tensor, n: int) -> Tensor:
    """Where each of n tokens is, int64 [B, n], when those at `index` [B, K] are taken; -1: it is gone."""
    places = torch.arange(index.shape[1], device=index.device).expand_as(index)
    # Empty places write to an extra last column, which is then cut off.
    gone = torch.full((index.shape[0], n + 1), -1, device=index.device)
    return gone.scatter(1, torch.where(index >= 0, index, n), places)[:, :n]


def slack_of(scores: Tensor, index: Tensor) -> Tensor:
    """How far the lowest kept score lies below the highest one left out, as a share of the highest of all."""
    kept = torch.zeros_like(scores, dtype=torch.bool).scatter(1, index.clamp(min=0), index >= 0)
    kept[:, 0] |= (index == 0).any(1)
    worst_kept = torch.where(kept, scores, PROTECTED).amin(1)
    best_left = torch.where(kept, ABSENT, scores).amax(1)
    highest = torch.where(scores < PROTECTED, scores, ABSENT).amax(1).clamp(min=EPSILON)
    return (best_left - worst_kept).clamp(min=0) / highest
