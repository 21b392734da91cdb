"""Pruning whose tokens take up those like them (PruMerge and PruMerge+, Shang et al., ICCV 2025), for a fixed number.

What CLS attends to most is kept. To each token that is kept comes the sum of the tokens whose keys are most like its
own, of kept ones too, each times the attention that CLS pays to it; one more token, behind all others, is such a sum of
all that is gone. In PruMerge+ some of those kept stand at even distances, whatever CLS attends to.

How many are kept is the recipe's here; in the paper it follows from the picture. The attention is that of CLS's softmax
over all tokens, as a mean over heads, and keys are means over heads; the published code takes both of the block behind
the one whose outputs it selects, as one head.
"""

from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar

import torch
from torch import Tensor

from pumer_convert.amount import Amount
from pumer_convert.reducers.base import Guide, Reduction, in_order
from pumer_convert.reducers.merging import COSINE, NEVER, cosines, keys_of
from pumer_convert.reducers.prune import (
    ABSENT,
    EACH,
    PROTECTED,
    PruneReducer,
    in_place,
    places_of,
    slack_of,
    take,
    taken,
)
from pumer_convert.reducers.traced import renewed
from pumer_convert.reducers.uniform_prune import spaced
from pumer_convert.tokens import Tokens, gather


class PruMergeReducer(PruneReducer):
    """`neighbors` are how many tokens come to each that is kept, `spatial` the share of those kept that stand at even
    distances. Frozen tokens are kept as they are and come to none.

    The decision [B, K, 1 + neighbors] has the place of every token that is kept and the places of what comes to it,
    ascending, then -1; the sum of what is gone has -1 alone. `source` says of those that are gone that they are in it.
    """

    function = "PruMerge"
    attributes = "neighbors: int"

    inputs = ("states", "keys", "mask", "frozen", "relevance", "weight")
    outputs: ClassVar = {
        "merged_states": "states",
        "merged_keys": "keys",
        "merged_mask": "mask",
        "index": None,
        "chosen": None,
    }
    statements = f"""
        {EACH}
        gone_each = Unsqueeze (removed_each, one)
        besides = Sub (kept_each, spare0)
        room = Min (besides, gone_each)
        some_room = Max (room, zero)
        sums = Min (some_room, one)
        own_each = Sub (kept_each, sums)
        absent = Constant <value = float[1] {{{ABSENT}}}> ()
        protected = Constant <value = float[1] {{{PROTECTED}}}> ()
        spared_scores = Where (frozen, protected, relevance)
        scores = Where (mask, spared_scores, absent)
        best_scores, best = TopK <axis = 1, largest = 1, sorted = 1> (scores, k)
        {take("filled", "own_each", "own_states")}
        merged_mask = Less (places, kept_each)
        is_sum = Xor (merged_mask, filled)
        sum_column = Unsqueeze (is_sum, two)

        {COSINE}
        n0 = Squeeze (n)
        every = Range (zero0, n0, one0)
        movable = Not (frozen)
        free = And (mask, movable)
        free_row = Unsqueeze (free, one)
        column = Unsqueeze (index, two)
        itself = Equal (column, every)
        another = Not (itself)
        eligible = And (free_row, another)
        of_kept = GatherND <batch_dims = 1> (cosine, rows)
        never = Constant <value = float[1] {{{NEVER}}}> ()
        alike = Where (eligible, of_kept, never)
        most_alike, order = TopK <axis = 2, largest = 1, sorted = 1> (alike, n)
        sorted_order, rank = TopK <axis = 2, largest = 0, sorted = 1> (order, n)
        neighbors0 = Constant <value_int: int = @neighbors> ()
        close = Less (rank, neighbors0)
        held = GatherElements <axis = 1> (frozen, position)
        unheld = Not (held)
        some = Less (zero, gone_each)
        filled_some = And (filled, some)
        takes = And (filled_some, unheld)
        takes_column = Unsqueeze (takes, two)
        close_eligible = And (close, eligible)
        member = And (close_eligible, takes_column)
        beyond = Add (every, n)
        sortable_members = Where (member, every, beyond)
        most = Min (neighbors0, n)
        first_members, unused_members = TopK <axis = 2, largest = 0, sorted = 1> (sortable_members, most)
        inside = Less (first_members, n)
        members = Where (inside, first_members, minus_one)
        chosen = Concat <axis = 2> (column, members)

        weight_row = Unsqueeze (weight, one)
        hot = Cast <to = 1> (member)
        mass = Mul (hot, weight_row)
        itself32 = Cast <to = 1> (itself)
        kept32 = ReduceMax <keepdims = 1> (itself32, one)
        one32 = Constant <value = float[1] {{1.0}}> ()
        nothing = Constant <value = float[1] {{0.0}}> ()
        gone32 = Sub (one32, kept32)
        gone_weight = Mul (gone32, weight_row)
        gone_mass = Where (free_row, gone_weight, nothing)
        all_mass = Where (sum_column, gone_mass, mass)
        all_weights = CastLike (all_mass, states)
        gained = MatMul (all_weights, states)
        no_state = CastLike (nothing, states)
        old_states = Where (sum_column, no_state, own_states)
        merged_states = Add (old_states, gained)
        key_weights = CastLike (gone_mass, keys)
        sum_keys = MatMul (key_weights, keys)
        merged_keys = Where (sum_column, sum_keys, kept_keys)
    """

    def __init__(self, amount: Amount, neighbors: float = 32, spatial: float = 0.0) -> None:
        super().__init__(amount)
        self.neighbors, self.spatial = int(neighbors), Fraction(str(spatial))

    def values(self, stays: int = 0) -> dict[str, Any]:
        """See `BaseReducer`."""
        return {**super().values(stays), "neighbors": self.neighbors}

    def scores(self, tokens: Tokens, guide: Guide) -> Tensor:
        """See `PruneReducer`; what stands at even distances comes before the rest, counted from the end as the
        published code does."""
        attention = super().scores(tokens, guide)
        if not self.spatial:
            return attention
        free = (tokens.mask & ~tokens.held).long()
        n, held = free.sum(1, keepdim=True), (tokens.mask & tokens.held).sum(1, keepdim=True)
        k = (self._own(tokens) - held).clamp(min=0) * self.spatial.numerator // self.spatial.denominator
        return torch.where(spaced(n + 1 - free.cumsum(1), n, k) > 0, PROTECTED, attention)

    def asked(self, tokens: Tokens, guide: Guide) -> tuple[Tensor, ...]:
        """See `PruneReducer`: the scores and the attention."""
        return self.scores(tokens, guide), super().scores(tokens, guide)

    def forward(self, tokens: Tokens, guide: Guide) -> Reduction:
        """See `PruneReducer`."""
        keys = keys_of(tokens)
        b, n, c = tokens.states.shape
        k = self.left(n, n, tokens.stays)
        if torch.onnx.is_in_onnx_export():
            most: Any = torch.sym_min(n, self.neighbors)  # type: ignore[no-untyped-call]
            states, keys, mask, index, chosen = self.call(
                tokens.stays,
                (tokens.states, keys, tokens.mask, tokens.held, *self.asked(tokens, guide)),
                (tokens.states.dtype, keys.dtype, torch.bool, torch.int64, torch.int64),
                ((b, k, c), (b, k, keys.shape[2]), (b, k), (b, k), (b, k, 1 + most)),
            )
            return Reduction(renewed(_summed(tokens, index, states, keys, mask)), chosen)
        if guide.decision is None:
            chosen, slack = self._choose(tokens, in_place(self.best(tokens, guide, int(k)), n, self._own(tokens))), None
        else:
            chosen, slack = guide.decision, self.slack(tokens, guide, guide.decision)
        index = chosen[..., 0]
        mask = torch.arange(int(k), device=index.device) < self.kept(tokens)[:, None]
        summed = (mask & (index < 0))[..., None]
        attention = super().scores(tokens, guide)[:, None]
        gone = attention * (_free(tokens) & ~_kept(index, n))[:, None]
        mass = torch.where(summed, gone, attention * _members(chosen[..., 1:], n))
        states = torch.where(summed, 0, gather(tokens.states, index)) + mass.to(tokens.states.dtype) @ tokens.states
        keys = torch.where(summed, gone.to(keys.dtype) @ keys, gather(keys, index))
        return Reduction(_summed(tokens, index, states, keys, mask), chosen, slack)

    def slack(self, tokens: Tokens, guide: Guide, index: Tensor) -> Tensor:
        """How much worse than its own a decision is: by what it keeps, as for pruning, or by a cosine of one that comes
        to another than the most similar."""
        places, member = index[..., 0], _members(index[..., 1:], tokens.states.shape[1])
        alike = _alike(tokens, places)
        left_out = torch.where(member, NEVER, alike).amax(2)
        behind = torch.where(member.any(2), left_out - torch.where(member, alike, 2.0).amin(2), 0).amax(1)
        return torch.maximum(slack_of(self.guarded(tokens, guide), places), behind)

    def _own(self, tokens: Tokens) -> Tensor:
        """How many of those that are left were there before, int64 [B, 1]: all but the sum of what is gone."""
        kept = self.kept(tokens)[:, None]
        gone = tokens.mask.sum(1, keepdim=True) - kept
        return kept - torch.minimum(gone, kept - self.spare_of(tokens.stays)).clamp(0, 1)

    def _choose(self, tokens: Tokens, index: Tensor) -> Tensor:
        """The decision, where the tokens at `index` [B, K] are kept."""
        n, alike = tokens.states.shape[1], _alike(tokens, index)
        order = in_order(alike.flatten(0, 1)).view_as(alike)[..., : self.neighbors]
        some = (self.kept(tokens) < tokens.mask.sum(1))[:, None]
        takes = (index >= 0) & some & ~gather(tokens.held, index)
        come = takes[..., None] & (alike.gather(2, order) > NEVER)
        members = torch.where(come, order, n).sort(dim=2).values
        return torch.cat([index[..., None], torch.where(members < n, members, -1)], 2)


def _free(tokens: Tokens) -> Tensor:
    return tokens.mask & ~tokens.held


def _kept(index: Tensor, n: int) -> Tensor:
    """Which of n tokens are at `index` [B, K], bool [B, n]."""
    return (index[..., None] == torch.arange(n, device=index.device)).any(1)


def _members(places: Tensor, n: int) -> Tensor:
    """Which of n tokens are at `places` [B, K, M], bool [B, K, n]; -1: none."""
    # Empty places write to an extra last column, which is then cut off.
    none = torch.zeros(*places.shape[:2], n + 1, dtype=torch.bool, device=places.device)
    return none.scatter(2, torch.where(places >= 0, places, n), True)[..., :n]


def _alike(tokens: Tokens, index: Tensor) -> Tensor:
    """Cosines of the tokens at `index` [B, K] with all that can come to them, below all others elsewhere: [B, K, N]."""
    place = torch.arange(tokens.states.shape[1], device=index.device)
    eligible = _free(tokens)[:, None] & (index[..., None] != place)
    return torch.where(eligible, gather(cosines(tokens), index), NEVER)


def _summed(tokens: Tokens, index: Tensor, states: Tensor, keys: Tensor, mask: Tensor) -> Tokens:
    """The tokens at `index` [B, K], and in the place of `mask` that has none the sum of the others."""
    n = tokens.states.shape[1]
    gone, summed = _free(tokens) & ~_kept(index, n), mask & (index < 0)
    found = taken(tokens, index, states, keys, mask)
    frozen = None if found.frozen is None else found.frozen & (index >= 0)
    size = torch.where(summed, (tokens.sizes * gone).sum(1, keepdim=True), gather(tokens.sizes, index))
    source = tokens.moved(lambda: _places(index, gone, summed, n))
    place = (
        None
        if tokens.place is None or tokens.source is None
        else torch.where(summed, tokens.source.shape[1] - 1, gather(tokens.place, index))
    )
    return replace(found, size=size, source=source, place=place, frozen=frozen)


def _places(index: Tensor, gone: Tensor, summed: Tensor, n: int) -> Tensor:
    """Where each of n tokens is, -1 for padding; those `gone` are in the one that is `summed`, if there is one."""
    there = summed.long().argmax(1, keepdim=True)
    return torch.where(gone & summed.any(1, keepdim=True), there, places_of(index, n))
