"""Text-informed pruning: drop the image tokens that the text asks for least (PuMer, section 3.1)."""

from typing import ClassVar

import torch
from torch import Tensor

from pumer_convert.reducers.base import BaseReducer, Guide, Reduction, how_many, in_order, wanted
from pumer_convert.reducers.traced import renewed
from pumer_convert.tokens import Tokens, gather

PROTECTED = 1e30
"""Score of token 0 (CLS), above every relevance."""
EPSILON = 1e-12
ABSENT = -1e30
"""Score of padding, below every relevance."""


class PruneReducer(BaseReducer):
    """Keeps the n - removed(n) most relevant tokens of each example, in their original order; token 0 always stays.

    n counts the valid tokens of the example, so padding changes nothing; the places that an example does not fill
    stand at the end and are masked.
    """

    function = "Prune"

    # Two TopKs: the best K by score, then the smallest K of their positions, which restores the original order.
    # Tokens past an example's own count get their position plus N, so that they sort behind the kept ones.
    inputs = ("states", "keys", "size", "mask", "relevance")
    outputs: ClassVar = {
        "kept_states": "states",
        "kept_keys": "keys",
        "kept_size": "size",
        "kept_mask": "mask",
        "index": None,
    }
    counts = how_many("least = Identity (one)")
    statements = f"""
        present = Cast <to = 7> (mask)
        count = ReduceSum <keepdims = 0> (present, one)
        {wanted("wanted_each", "count", "count")}
        spare_each = Sub (count, one)
        room_each = Max (spare_each, zero)
        removed_each = Min (wanted_each, room_each)
        left_each = Sub (count, removed_each)
        kept_each = Unsqueeze (left_each, one)

        n0 = Squeeze (n)
        k0 = Squeeze (k)
        positions = Range (zero0, n0, one0)
        first = Equal (positions, zero)
        absent = Constant <value = float[1] {{{ABSENT}}}> ()
        protected = Constant <value = float[1] {{{PROTECTED}}}> ()
        present_scores = Where (mask, relevance, absent)
        scores = Where (first, protected, present_scores)
        best_scores, best = TopK <axis = 1, largest = 1, sorted = 1> (scores, k)
        places = Range (zero0, k0, one0)
        kept_mask = Less (places, kept_each)
        behind = Add (best, n)
        sortable = Where (kept_mask, best, behind)
        ascending, unused = TopK <axis = 1, largest = 0, sorted = 1> (sortable, k)
        position = Mod (ascending, n)
        index = Where (kept_mask, position, minus_one)

        rows = Unsqueeze (position, minus_one)
        kept_states = GatherND <batch_dims = 1> (states, rows)
        kept_keys = GatherND <batch_dims = 1> (keys, rows)
        kept_size = GatherND <batch_dims = 1> (size, rows)
    """

    def scores(self, tokens: Tokens, guide: Guide) -> Tensor:
        """What is kept: the tokens of the highest scores, [B, N] float32."""
        if guide.relevance is None:
            raise ValueError("pruning needs a score of the tokens")
        return guide.relevance

    def forward(self, tokens: Tokens, guide: Guide) -> Reduction:
        """Prune by `scores`; `tokens.keys` follow the tokens."""
        if tokens.keys is None:
            raise ValueError("pruning needs the keys of the tokens")
        scores = self.scores(tokens, guide)
        if torch.onnx.is_in_onnx_export():
            return self._traced(tokens, scores)
        n = tokens.states.shape[1]
        count = tokens.mask.sum(1)
        kept = count - self.removed_each(count, count, (count - 1).clamp(min=0))
        k = int(self.left(n, n, 1))
        scores = torch.where(tokens.mask, scores.float(), ABSENT)
        scores = torch.where(torch.arange(n, device=scores.device) == 0, PROTECTED, scores)
        if guide.decision is None:
            best = in_order(scores)[:, :k]
            filled = torch.arange(k, device=best.device) < kept[:, None]
            position = torch.where(filled, best, best + n).sort(dim=1).values % n
            index, slack = torch.where(filled, position, -1), None
        else:
            index = guide.decision
            filled = index >= 0
            slack = _slack(scores, index)
        return Reduction(take(tokens, index, filled, filled), index, slack)

    def _traced(self, tokens: Tokens, scores: Tensor) -> Reduction:
        assert tokens.keys is not None
        states, keys = tokens.states, tokens.keys
        b, n = states.shape[:2]
        k = self.left(n, n, 1)
        out = self.call(
            (states, keys, tokens.sizes, tokens.mask, scores),
            (states.dtype, keys.dtype, torch.float32, torch.bool, torch.int64),
            ((b, k, states.shape[2]), (b, k, keys.shape[2]), (b, k), (b, k), (b, k)),
        )
        size = None if tokens.size is None else out[2]
        return Reduction(renewed(Tokens(out[0], out[3], size, None, out[1])), out[4])


def take(tokens: Tokens, index: Tensor, filled: Tensor, mask: Tensor) -> Tokens:
    """The tokens at `index` [B, K] where `filled` [B, K]; `mask` is the new mask, cut to K."""
    assert tokens.keys is not None
    places = torch.arange(index.shape[1], device=index.device).expand_as(index)
    place = torch.full(tokens.states.shape[:2], -1, device=index.device)
    # Empty places write to an extra last column, which is then cut off.
    place = torch.nn.functional.pad(place, (0, 1))
    place = place.scatter(1, torch.where(filled, index, place.shape[1] - 1), places)[:, :-1]
    return Tokens(
        gather(tokens.states, index),
        mask[:, : index.shape[1]],
        None if tokens.size is None else gather(tokens.size, index),
        tokens.moved(place),
        gather(tokens.keys, index),
    )


def _slack(scores: Tensor, index: Tensor) -> Tensor:
    """How far the lowest kept score lies below the highest one left out, as a share of the highest of all."""
    kept = torch.zeros_like(scores, dtype=torch.bool).scatter(1, index.clamp(min=0), index >= 0)
    kept[:, 0] |= (index == 0).any(1)
    worst_kept = torch.where(kept, scores, PROTECTED).amin(1)
    best_left = torch.where(kept, ABSENT, scores).amax(1)
    highest = torch.where(scores < PROTECTED, scores, ABSENT).amax(1).clamp(min=EPSILON)
    return (best_left - worst_kept).clamp(min=0) / highest
