"""Frozen tokens, wherever they stand: they are never pruned and never merge away, in eager as in the ONNX function."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_reducers import KINDS, PRUNING, SUMMING, amounts, make, reduce, session

from pumer_convert.amount import Amount
from pumer_convert.reducers.base import Guide
from pumer_convert.tokens import Tokens

DECISIONS = {"prune": "index", "divprune": "index", "cdpruner": "index", "prumerge": "chosen", "visionzip": "into"}
"""What the function calls its decision; a merge: its target."""


def frozen_at(lengths: list[int], n: int, seed: int, most: int) -> tuple[Tokens, torch.Tensor]:
    """Tokens of which `most` in each example, or all there are, are frozen at places drawn by `seed`."""
    tokens, relevance = make(lengths, n, seed, ties=False)
    tokens = Tokens.start(tokens.states, tokens.mask).with_keys(tokens.keys)
    drawn = torch.rand(len(lengths), n, generator=torch.Generator().manual_seed(seed)).where(tokens.mask, -1.0)
    where = tokens.mask & (drawn.argsort(1, descending=True).argsort(1) < most)
    return tokens.freeze(where, most), relevance


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=3),
    amount=amounts,
    seed=st.integers(0, 99),
    most=st.integers(0, 4),
)
def test_they_stay(kind: str, lengths: list[int], amount: Amount, seed: int, most: int) -> None:
    tokens, relevance = frozen_at(lengths, max(lengths), seed, most)
    out = reduce(kind, amount, tokens, relevance).tokens
    assert out.source is not None
    assert out.stays == most
    for row, length in enumerate(lengths):
        places = tokens.held[row].nonzero()[:, 0]
        now = out.source[row, places]
        assert (now >= 0).all()
        assert len(now.unique()) == len(now) == min(most, length)
        assert torch.equal((out.held & out.mask)[row].nonzero()[:, 0], now), "and in the same order"
        left = int(out.mask[row].sum())
        assert left >= max(len(now), 1)
        assert out.mask[row, :left].all()
        # Where a summary is kept, all that is gone is in it.
        totals = {left, length} if kind in SUMMING else {left if kind in PRUNING else length}
        assert float(out.sizes[row, :left].sum()) in totals
        if kind != "merge":  # whose frozen tokens at odd places take others in
            torch.testing.assert_close(out.states[row, now], tokens.states[row, places])


@pytest.mark.parametrize("most", [0, 1, 2, 3])
@pytest.mark.parametrize("amount", [Amount.share("0.3"), Amount(drop=9), Amount(keep=2)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_onnx_function_keeps_the_same(kind: str, amount: Amount, most: int) -> None:
    run = session(kind, amount, most)
    for n in (3, 4, 9, 14):
        tokens, relevance = frozen_at([n, max(1, n - 3)], n, n, most)
        own = reduce(kind, amount, tokens, relevance)
        assert tokens.keys is not None
        given = {"states": tokens.states, "keys": tokens.keys, "mask": tokens.mask, "frozen": tokens.held}
        given |= {"relevance": relevance, "weight": relevance, "entry": tokens.mask, "size": tokens.sizes}
        names = [o.name for o in run.get_outputs()]
        out = dict(zip(names, run.run(None, {i.name: given[i.name].numpy() for i in run.get_inputs()}), strict=True))
        assert torch.equal(torch.from_numpy(out[DECISIONS.get(kind, "target")]), own.decision), n
        if kind not in PRUNING and own.tokens.frozen is not None and own.tokens.size is not None:
            mask = own.tokens.mask
            assert torch.equal(torch.from_numpy(out["merged_frozen"])[mask], own.tokens.frozen[mask])
            assert torch.equal(torch.from_numpy(out["merged_size"])[mask], own.tokens.size[mask])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("divprune", "prumerge")])
def test_without_any_the_first_token_goes_as_others_do(kind: str) -> None:
    states = torch.tensor([[[1.0], [3.0], [9.0], [27.0]]])
    keys = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.7, -0.7]]])
    tokens = Tokens.start(states, torch.ones(1, 4, dtype=torch.bool)).with_keys(keys)
    relevance = torch.tensor([[0.0, 3.0, 2.0, 1.0]])
    found = KINDS[kind](Amount(drop=1))(tokens, Guide(tokens.mask, relevance)).tokens
    assert found.states[0, :, 0].tolist() == ([3.0, 9.0, 27.0] if kind in PRUNING else [2.0, 9.0, 27.0])
    stays = KINDS[kind](Amount(drop=1))(tokens.freeze(torch.arange(4)[None] == 0, 1), Guide(tokens.mask, relevance))
    assert float(stays.tokens.states[0, 0, 0]) == 1.0
