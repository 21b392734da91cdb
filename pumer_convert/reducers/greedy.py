"""Pruning that picks one token after the other, each by what those before it leave of the rest."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pumer_convert.reducers.base import Guide
from pumer_convert.reducers.merging import COSINE, cosines
from pumer_convert.reducers.prune import ABSENT, EACH, PROTECTED, PruneReducer, take
from pumer_convert.tokens import Tokens

CHOSEN = -2e30
"""The score of a token that is chosen already: below all others, padding's too."""


def picking(setup: str, score: str, update: str, state: Mapping[str, str]) -> str:
    """The statements of a kind that picks, as ONNX text.

    `state` is what goes along from pick to pick: name -> its dimensions. `setup` makes it as it is before the first
    pick; `zeros` [b, 1, n] are there for it. In the loop, at pick number `i`, the text `score` makes `score`
    [b, 1, n] of it, named NAME_in, and `update` makes NAME_out, from the token of the highest score: its place
    `best_row` [b, 1, 1], where that is, `hit` [b, 1, n], and its cosines to all, `row` [b, 1, n].
    """
    # TensorRT-RTX builds a loop whose state has three dimensions, and in which every token is picked, the first too.
    taken, given = (
        ", ".join(f"float[{dims}] {name}_{end}" for name, dims in {"lead": "b, one_row, n", **state}.items())
        for end in ("in", "out")
    )
    return f"""
        {EACH}
        {COSINE}
        nothing = Constant <value = float[1] {{0.0}}> ()
        one32 = Constant <value = float[1] {{1.0}}> ()
        absent = Constant <value = float[1] {{{ABSENT}}}> ()
        protected = Constant <value = float[1] {{{PROTECTED}}}> ()
        chosen = Constant <value = float[1] {{{CHOSEN}}}> ()
        n0 = Squeeze (n)
        every = Range (zero0, n0, one0)
        lead_frozen = Where (frozen, protected, nothing)
        lead_row = Where (mask, lead_frozen, absent)
        lead = Unsqueeze (lead_row, one)
        zeros = Mul (lead, nothing)
        {setup}
        yes = Cast <to = 9> (one0)
        k0_picks = Squeeze (k)
        lead_last, {", ".join(f"{name}_last" for name in state)}, picks = Loop <body = pick (int64 i, bool go, {taken})
            => (bool go_out, {given}, int64[b] picked) {{
                {score}
                guarded = Add (score, lead_in)
                best_place = ArgMax <axis = 2, keepdims = 0> (guarded)
                best_row = Unsqueeze (best_place, two)
                row = GatherND <batch_dims = 1> (cosine, best_row)
                hit = Equal (every, best_row)
                {update}
                lead_out = Where (hit, chosen, lead_in)
                picked = Squeeze (best_place, one)
                go_out = Identity (go)
            }}> (k0_picks, yes, lead, {", ".join(state)})
        best = Transpose <perm = [1, 0]> (picks)
        {take()}
    """


class GreedyReducer(PruneReducer):
    """Compares `tokens.keys` by their cosines, in float32; of equal scores the first token wins. Frozen tokens come
    first, and are picked like any other: the rest is chosen in view of them."""

    @abstractmethod
    def start(self, cosine: Tensor, tokens: Tokens, guide: Guide, k: int) -> Sequence[Tensor]:
        """What goes along from pick to pick of the `k`, from the `cosine` [B, N, N] of all with all."""

    @abstractmethod
    def score(self, state: Sequence[Tensor], number: int) -> Tensor:
        """How much each token would be worth as pick of that number, [B, N]."""

    @abstractmethod
    def update(self, state: Sequence[Tensor], row: Tensor, place: Tensor, number: int) -> Sequence[Tensor]:
        """What goes along after the token at `place` [B, 1] was picked, whose cosines to all are `row` [B, N]."""

    def best(self, tokens: Tokens, guide: Guide, k: int) -> Tensor:
        """See `PruneReducer`."""
        return self._picks(tokens, guide, k, None)[0]

    def slack(self, tokens: Tokens, guide: Guide, index: Tensor) -> Tensor:
        """See `PruneReducer`: the most that a pick among these positions was worth less than the best of all tokens."""
        spots = torch.zeros_like(tokens.mask).scatter(1, index.clamp(min=0), index >= 0)
        spots[:, 0] |= (index == 0).any(1)
        return self._picks(tokens, guide, index.shape[1], spots)[1]

    def _picks(self, tokens: Tokens, guide: Guide, k: int, within: Tensor | None) -> tuple[Tensor, Tensor]:
        """The positions picked one after the other, [B, k], and by how much the worst pick was behind the best one,
        [B]: nothing, unless only positions `within` [B, N] may be picked."""
        cosine = cosines(tokens)
        state = self.start(cosine, tokens, guide, k)
        lead = torch.where(tokens.mask, torch.where(tokens.held, PROTECTED, 0.0), ABSENT)
        picks, slack = [], torch.zeros_like(lead[:, 0])
        for i in range(k):
            score = self.score(state, i) + lead
            place = score.argmax(1, keepdim=True)
            if within is not None:
                allowed = torch.where(within, score, CHOSEN)
                own = score.gather(1, place)
                place = torch.where(within.gather(1, place), place, allowed.argmax(1, keepdim=True))
                # What an example does not fill is picked of padding, and counts for nothing.
                behind = torch.where(allowed.gather(1, place) > ABSENT, own - allowed.gather(1, place), 0)
                slack = torch.maximum(slack, behind[:, 0])
            picks.append(place)
            row = cosine.gather(1, place[:, :, None].expand(-1, 1, cosine.shape[2]))[:, 0]
            state = self.update(state, row, place, i)
            lead = lead.scatter(1, place, CHOSEN)
        return torch.cat(picks, 1), slack
