"""Pruning that leaves a summary of the rest (VisionZip, Yang et al., CVPR 2025): dominant tokens, which CLS attends to
most, stay as they are; of the others some at even distances are contextual ones, and each of the rest joins the one
whose key is most like its own, whose state becomes the sum of its own and the mean of those that joined it.
"""

from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar

import torch
from torch import Tensor

from pumer_convert.amount import Amount
from pumer_convert.reducers.base import Guide, Reduction, in_order, ranks
from pumer_convert.reducers.merging import COSINE, NEVER, cosines, keys_of
from pumer_convert.reducers.prune import ABSENT, EACH, PROTECTED, PruneReducer, places_of, slack_of, taken
from pumer_convert.reducers.traced import renewed
from pumer_convert.tokens import Tokens, gather, readable


class VisionZipReducer(PruneReducer):
    """`contextual` is the share of the tokens left that are contextual. The decision [B, N] says where each token goes:
    to the place of a contextual one (its own, for such a one), N and its own place for a dominant one, -1: nowhere."""

    function = "VisionZip"
    attributes = "share_num: int, share_den: int"

    outputs: ClassVar = {
        "kept_states": "states",
        "kept_keys": "keys",
        "kept_mask": "mask",
        "index": None,
        "into": None,
    }
    statements = f"""
        {EACH}
        share_num0 = Constant <value_int: int = @share_num> ()
        share_den0 = Constant <value_int: int = @share_den> ()
        shared = Mul (kept_each, share_num0)
        wanted_contextual = Div (shared, share_den0)
        besides = Sub (kept_each, spare0)
        limited = Min (wanted_contextual, besides)
        contextual = Max (limited, zero)
        dominants = Sub (kept_each, contextual)

        absent = Constant <value = float[1] {{{ABSENT}}}> ()
        protected = Constant <value = float[1] {{{PROTECTED}}}> ()
        spared_scores = Where (frozen, protected, relevance)
        scores = Where (mask, spared_scores, absent)
        sorted_scores, order = TopK <axis = 1, largest = 1, sorted = 1> (scores, n)
        sorted_order, rank = TopK <axis = 1, largest = 0, sorted = 1> (order, n)
        dominant = Less (rank, dominants)
        others = Not (dominant)
        free = And (mask, others)
        free64 = Cast <to = 7> (free)
        counted = CumSum (free64, one0)
        number = Sub (counted, one)
        remaining = ReduceSum <keepdims = 1> (free64, one)
        divisor = Max (contextual, one)
        quotient = Div (remaining, divisor)
        step = Max (quotient, one)
        odd = Mod (number, step)
        even = Equal (odd, zero)
        nth = Div (number, step)
        early = Less (nth, contextual)
        spaced = And (even, early)
        anchor = And (free, spaced)

        {COSINE}
        never = Constant <value = float[1] {{{NEVER}}}> ()
        anchor_row = Unsqueeze (anchor, one)
        alike = Where (anchor_row, cosine, never)
        nearest = ArgMax <axis = 2, keepdims = 0> (alike)
        n0 = Squeeze (n)
        every = Range (zero0, n0, one0)
        beyond = Add (every, n)
        some = Less (zero, contextual)
        joined = Where (some, nearest, minus_one)
        gone = Where (anchor, every, joined)
        there = Where (mask, gone, minus_one)
        into = Where (dominant, beyond, there)

        kept = Or (dominant, anchor)
        sortable = Where (kept, every, beyond)
        ascending, unused = TopK <axis = 1, largest = 0, sorted = 1> (sortable, k)
        position = Mod (ascending, n)
        k0 = Squeeze (k)
        first = Range (zero0, k0, one0)
        kept_mask = Less (first, kept_each)
        index = Where (kept_mask, position, minus_one)
        rows = Unsqueeze (position, minus_one)
        own = GatherND <batch_dims = 1> (states, rows)
        kept_keys = GatherND <batch_dims = 1> (keys, rows)
        column = Unsqueeze (index, two)
        into_row = Unsqueeze (into, one)
        hit = Equal (column, into_row)
        itself = Equal (column, every)
        another = Not (itself)
        member = And (hit, another)
        mass = Cast <to = 1> (member)
        members = ReduceSum <keepdims = 1> (mass, two)
        one32 = Constant <value = float[1] {{1.0}}> ()
        safe = Max (members, one32)
        share32 = Div (mass, safe)
        weight = CastLike (share32, states)
        gained = MatMul (weight, states)
        kept_states = Add (own, gained)
    """

    def __init__(self, amount: Amount, contextual: float = 0.15625) -> None:
        super().__init__(amount)
        self.contextual = Fraction(str(contextual))

    def values(self, stays: int = 0) -> dict[str, Any]:
        """See `BaseReducer`."""
        return {
            **super().values(stays),
            "share_num": self.contextual.numerator,
            "share_den": self.contextual.denominator,
        }

    def forward(self, tokens: Tokens, guide: Guide) -> Reduction:
        """See `PruneReducer`."""
        keys = keys_of(tokens)
        b, n, c = tokens.states.shape
        k = self.left(n, n, tokens.stays)
        if torch.onnx.is_in_onnx_export():
            states, keys, mask, index, into = self.call(
                tokens.stays,
                (tokens.states, keys, tokens.mask, tokens.held, *self.asked(tokens, guide)),
                (tokens.states.dtype, keys.dtype, torch.bool, torch.int64, torch.int64),
                ((b, k, c), (b, k, keys.shape[2]), (b, k), (b, k), (b, n)),
            )
            return Reduction(renewed(_joined(tokens, index, into, states, keys, mask)), into)
        into, slack = self._decide(tokens, guide), None
        if guide.decision is not None:
            into, slack = guide.decision, self.slack(tokens, guide, guide.decision)
        place = torch.arange(n, device=into.device)
        kept = (into >= n) | (into == place)
        mask = torch.arange(int(k), device=into.device) < kept.sum(1, keepdim=True)
        index = torch.where(kept, place, place + n).sort(dim=1).values[:, : int(k)] % n
        index = torch.where(mask, index, -1)
        member = (into[:, None] == index[..., None]) & (place != index[..., None])
        weight = (member / member.sum(2, keepdim=True).clamp(min=1)).to(tokens.states.dtype)
        states = gather(tokens.states, index) + weight @ tokens.states
        return Reduction(_joined(tokens, index, into, states, gather(keys, index), mask), into, slack)

    def _decide(self, tokens: Tokens, guide: Guide) -> Tensor:
        kept = self.kept(tokens)[:, None]
        dominant = ranks(in_order(self.guarded(tokens, guide))) < kept - self._summaries(kept, tokens.stays)
        anchor = self._anchors(tokens, dominant)
        place = torch.arange(tokens.states.shape[1], device=kept.device)
        joined = torch.where(anchor.any(1, keepdim=True), _alike(tokens, anchor).argmax(2), -1)
        there = torch.where(tokens.mask, torch.where(anchor, place, joined), -1)
        return torch.where(dominant, place + len(place), there)

    def _summaries(self, kept: Tensor, stays: int) -> Tensor:
        """How many of those that are kept are contextual: the share, rounded down, beside those that have to stay."""
        shared = kept * self.contextual.numerator // self.contextual.denominator
        return torch.minimum(shared, kept - self.spare_of(stays)).clamp(min=0)

    def _anchors(self, tokens: Tokens, dominant: Tensor) -> Tensor:
        """The contextual tokens beside these dominant ones, bool [B, N]."""
        rest, count = tokens.mask & ~dominant, self._summaries(self.kept(tokens)[:, None], tokens.stays)
        number = rest.cumsum(1) - 1
        step = (rest.sum(1, keepdim=True) // count.clamp(min=1)).clamp(min=1)
        return rest & (number % step == 0) & (number // step < count)

    def slack(self, tokens: Tokens, guide: Guide, index: Tensor) -> Tensor:
        """How much worse than its own a decision is: by its dominant tokens, as for pruning, or by a cosine of one that
        joins another than the most similar; an infinity where the contextual ones are not those between them."""
        n = tokens.states.shape[1]
        place, dominant = torch.arange(n, device=index.device), index >= n
        anchor, alike = index == place, _alike(tokens, index == place)
        chosen = alike.gather(2, (index % n)[..., None])[..., 0]
        behind = torch.where((index >= 0) & ~dominant & ~anchor, alike.amax(2) - chosen, 0).amax(1)
        strange = (anchor != self._anchors(tokens, dominant)).any(1)
        worst = torch.maximum(slack_of(self.guarded(tokens, guide), torch.where(dominant, place, -1)), behind)
        return torch.where(strange, torch.inf, worst)


def _alike(tokens: Tokens, anchor: Tensor) -> Tensor:
    """Cosines of the keys with those of the contextual tokens, below all others elsewhere: [B, N, N]."""
    return torch.where(anchor[:, None], cosines(tokens), NEVER)


def _joined(tokens: Tokens, index: Tensor, into: Tensor, states: Tensor, keys: Tensor, mask: Tensor) -> Tokens:
    """The tokens at `index` [B, K] with what went `into` them [B, N] counted and mapped."""
    n = tokens.states.shape[1]
    goal = torch.where(into >= n, into - n, into)
    hits = (goal[:, None] == index[..., None]) & (index >= 0)[..., None]
    size = (hits.float() @ tokens.sizes[..., None])[..., 0]
    places = places_of(index, n).gather(1, readable(goal))
    source = tokens.moved(lambda: torch.where(goal >= 0, places, -1))
    return replace(taken(tokens, index, states, keys, mask), size=size, source=source)
