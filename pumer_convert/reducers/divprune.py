"""Pruning for diversity: what is kept are tokens that lie far from each other (DivPrune, Alvar et al., CVPR 2025).

Written from the paper's definition: the set whose smallest distance between two members is largest, found greedily. The
first is the token that is farthest from the one nearest to it; then again and again the one that is farthest from the
nearest of those chosen. Distances are 1 - cosine.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pumer_convert.reducers.base import Guide
from pumer_convert.reducers.merging import EPSILON, UNIT
from pumer_convert.reducers.prune import ABSENT, EACH, PROTECTED, TAKE, PruneReducer
from pumer_convert.tokens import Tokens

FAR = 4.0
"""Above every distance."""
CHOSEN = -2e30
"""The distance of a token that is chosen already: below all others, padding's too."""


class DivPruneReducer(PruneReducer):
    """Chooses by `tokens.keys`, in float32; a distance that is equal goes to the first. Frozen tokens come first."""

    function = "DivPrune"

    # TensorRT-RTX builds a loop whose state has three dimensions, and in which every token is picked, the first too.
    inputs = ("states", "keys", "mask", "frozen")
    statements = f"""
        {EACH}
        {UNIT}
        turned = Transpose <perm = [0, 2, 1]> (unit)
        cosine = MatMul (unit, turned)
        one32 = Constant <value = float[1] {{1.0}}> ()
        distance = Sub (one32, cosine)
        far = Constant <value = float[1] {{{FAR}}}> ()
        absent = Constant <value = float[1] {{{ABSENT}}}> ()
        protected = Constant <value = float[1] {{{PROTECTED}}}> ()
        chosen = Constant <value = float[1] {{{CHOSEN}}}> ()
        n0 = Squeeze (n)
        every = Range (zero0, n0, one0)
        column = Unsqueeze (every, one)
        self_pair = Equal (every, column)
        valid = Unsqueeze (mask, one)
        held = Unsqueeze (frozen, one)
        other = Where (self_pair, far, distance)
        others = Where (valid, other, far)
        lone = ReduceMin <keepdims = 0> (others, two)
        lone_row = Unsqueeze (lone, one)
        lone_held = Where (held, protected, lone_row)
        start = Where (valid, lone_held, absent)
        all_far = Where (held, protected, far)
        near = Where (valid, all_far, absent)
        yes = Cast <to = 9> (one0)
        k0_picks = Squeeze (k)
        near_last, picks = Loop <body = pick (int64 i, bool go, float[b, r, m] near_in)
            => (bool go_out, float[b, r, m] near_out, int64[b] picked) {{
                is_first = Equal (i, zero0)
                score = Where (is_first, start, near_in)
                best_place = ArgMax <axis = 2, keepdims = 0> (score)
                best_row = Unsqueeze (best_place, two)
                row = GatherND <batch_dims = 1> (distance, best_row)
                closer = Min (near_in, row)
                waiting = Where (held, near_in, closer)
                hit = Equal (every, best_row)
                near_out = Where (hit, chosen, waiting)
                picked = Squeeze (best_place, one)
                go_out = Identity (go)
            }}> (k0_picks, yes, near)
        best = Transpose <perm = [1, 0]> (picks)
        {TAKE}
    """

    def asked(self, tokens: Tokens, guide: Guide) -> tuple[Tensor, ...]:
        """See `PruneReducer`: the tokens are enough."""
        return ()

    def best(self, tokens: Tokens, guide: Guide, k: int) -> Tensor:
        """See `PruneReducer`."""
        return _greedy(tokens, k, None)[0]

    def slack(self, tokens: Tokens, guide: Guide, index: Tensor) -> Tensor:
        """See `PruneReducer`: the most that a pick among these positions was nearer to those before it than the best of
        all tokens, as a distance."""
        spots = torch.zeros_like(tokens.mask).scatter(1, index.clamp(min=0), index >= 0)
        spots[:, 0] |= (index == 0).any(1)
        return _greedy(tokens, index.shape[1], spots)[1]


def _greedy(tokens: Tokens, k: int, within: Tensor | None) -> tuple[Tensor, Tensor]:
    """The positions picked one after the other, [B, k], and by how much the worst pick was behind the best one, [B]:
    nothing, unless only positions `within` [B, N] may be picked."""
    assert tokens.keys is not None
    unit = F.normalize(tokens.keys.float(), dim=-1, eps=EPSILON)
    distance = 1 - unit @ unit.transpose(1, 2)
    valid, held = tokens.mask, tokens.held
    every = torch.arange(valid.shape[1], device=valid.device)
    others = torch.where(valid[:, None] & (every != every[:, None]), distance, FAR)
    score = torch.where(valid, torch.where(held, PROTECTED, others.amin(2)), ABSENT)
    near = torch.where(valid, torch.where(held, PROTECTED, FAR), ABSENT)
    picks, slack = [], torch.zeros_like(near[:, 0])
    for _ in range(k):
        place = score.argmax(1, keepdim=True)
        if within is not None:
            allowed = torch.where(within, score, CHOSEN)
            own, place = score.gather(1, place), torch.where(within.gather(1, place), place, allowed.argmax(1, True))
            # What an example does not fill is picked of padding, and counts for nothing.
            behind = torch.where(allowed.gather(1, place) > ABSENT, own - allowed.gather(1, place), 0)
            slack = torch.maximum(slack, behind[:, 0])
        picks.append(place)
        row = distance.gather(1, place[:, :, None].expand(-1, 1, distance.shape[2]))[:, 0]
        near = torch.where(held, near, torch.minimum(near, row))
        score = near = near.scatter(1, place, CHOSEN)
    return torch.cat(picks, 1), slack
