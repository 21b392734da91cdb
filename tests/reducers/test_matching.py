"""ToMe and PiToMe against their papers: cases computed by hand, and the definitions written out as loops."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pumer_convert.amount import Amount
from pumer_convert.models import attention
from pumer_convert.reducers import merge, pitome
from pumer_convert.reducers.base import BaseReducer, Guide
from pumer_convert.reducers.site import SiteReducers, Trace
from pumer_convert.tokens import Tokens


def tokens_of(keys: list[list[float]], size: list[float]) -> Tokens:
    """One example whose states are 1, 10, 100, ...: a mean tells its members."""
    n = len(keys)
    states = torch.tensor([[[10.0**i] for i in range(n)]])
    start = Tokens.start(states, torch.ones(1, n, dtype=torch.bool), first=1)
    return replace(start, size=torch.tensor([size]), keys=torch.tensor([keys]))


def reduce(reducer: BaseReducer, tokens: Tokens) -> tuple[list[float], list[float], list[int]]:
    """States, sizes and source map of the result."""
    out = reducer(tokens, Guide(tokens.mask)).tokens
    assert out.source is not None
    assert out.mask.all()
    return out.states[0, :, 0].tolist(), out.size[0].tolist(), out.source[0].tolist()


# CLS is token 0 and alike to token 1, but may not merge. A = {0, 2, 4}, B = {1, 3}.
TOME = [[1.0, 0.0], [1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.6, 0.8]]


@pytest.mark.parametrize(
    ("drop", "states", "sizes", "source"),
    [
        # 2 is most like 1 (cosine 1 / sqrt(1.01)); it counts twice: (1 * 10 + 2 * 100) / 3.
        (1, [1.0, 70.0, 1e3, 1e4], [1.0, 3.0, 1.0, 1.0], [0, 1, 1, 2, 3]),
        # 4 is next: 0.8 to 3 against 0.6 to 1.
        (2, [1.0, 70.0, 5500.0], [1.0, 3.0, 2.0], [0, 1, 1, 2, 2]),
        # No more than half of what is not CLS may go.
        (9, [1.0, 70.0, 5500.0], [1.0, 3.0, 2.0], [0, 1, 1, 2, 2]),
    ],
)
def test_tome_by_hand(drop: int, states: list[float], sizes: list[float], source: list[int]) -> None:
    found = reduce(merge.MergeReducer(Amount(drop=drop)), tokens_of(TOME, [1, 1, 2, 1, 1]))
    assert found[0] == pytest.approx(states)
    assert found[1:] == (sizes, source)


# Three alike, one alone, one between; CLS is alike to the three, and set aside.
PITOME = [[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]
FAR = math.exp(-0.5) - 1  # elu(0 - 0.5)
ENERGIES = [(3 * 0.5 + FAR + 0.1) / 5] * 3 + [(3 * FAR + 0.5 + 0.3) / 5, (3 * 0.1 + 0.3 + 0.5) / 5]


def test_energies_by_hand() -> None:
    tokens = tokens_of(PITOME, [1] * 6)
    assert tokens.keys is not None
    found = pitome.energies(tokens.keys, ~tokens.held, 0.5)[0]
    assert found[1:].tolist() == pytest.approx(ENERGIES, abs=1e-6)
    energies = ENERGIES
    assert energies == pytest.approx([0.241306] * 3 + [-0.076082, 0.22], abs=1e-6)
    assert float(found[0]) < min(ENERGIES)


@pytest.mark.parametrize(
    ("drop", "states", "sizes", "source"),
    [
        # By energy: 1, 2, 3, 5, 4. One pair: A = {1}, B = {2}, which counts twice.
        (1, [1.0, 70.0, 1e3, 1e4, 1e5], [1.0, 3.0, 1.0, 1.0, 1.0], [0, 1, 1, 2, 3, 4]),
        # Two pairs: A = {1, 3}, B = {2, 5}; both are most like 2. The token that stands alone is never touched.
        (2, [1.0, 302.5, 1e4, 1e5], [1.0, 4.0, 1.0, 1.0], [0, 1, 1, 1, 2, 3]),
    ],
)
def test_pitome_by_hand(drop: int, states: list[float], sizes: list[float], source: list[int]) -> None:
    found = reduce(pitome.PitomeReducer(Amount(drop=drop), margin=0.5), tokens_of(PITOME, [1, 1, 2, 1, 1, 1]))
    assert found[0] == pytest.approx(states)
    assert found[1:] == (sizes, source)


def test_the_margin_decides_what_is_a_cluster() -> None:
    # Three at cosines of 0.55 to each other, and two the same, at 0 to the three. The pair's lead is, times 5,
    # elu(1 - m) + elu(-m) - 2 elu(0.55 - m): -0.1 at m = 0, +0.09 at m = 0.99.
    middle, own = math.sqrt(0.55), math.sqrt(0.45)
    three = [[middle, *(own if i == j else 0.0 for j in range(3)), 0.0] for i in range(3)]
    unit = torch.tensor([[[0.0, 0, 0, 0, 1]] * 3 + three])
    seen = torch.arange(6)[None] > 0
    for margin, lead in ((0.0, -0.1), (0.99, 0.01 + math.exp(-0.99) - 1 - 2 * (math.exp(-0.44) - 1))):
        energy = pitome.energies(unit, seen, margin)[0]
        assert 5 * float(energy[1] - energy[3]) == pytest.approx(lead, abs=1e-5)
    assert lead > 0.09


def loops(keys: Tensor, r: int, margin: float) -> dict[int, int]:
    """PiToMe's algorithm 1 for one example [N, D], token 0 set aside: which token merges into which."""
    n = len(keys)

    def cosine(i: int, j: int) -> float:
        return float(keys[i] @ keys[j] / (keys[i].norm() * keys[j].norm()))

    def elu(x: float) -> float:
        return x if x > 0 else math.exp(x) - 1

    energy = {i: sum(elu(cosine(i, j) - margin) for j in range(1, n)) / (n - 1) for i in range(1, n)}
    order = sorted(energy, key=lambda i: (-energy[i], i))[: 2 * r]
    return {a: max(order[1::2], key=lambda b: cosine(a, b)) for a in order[::2]}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("margin", [0.9, 0.3])
def test_pitome_is_its_definition(seed: int, margin: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(1, 21, 5, generator=generator, dtype=torch.float64)
    tokens = Tokens.start(torch.zeros(1, 21, 3), torch.ones(1, 21, dtype=torch.bool), first=1).with_keys(keys)
    decision = pitome.PitomeReducer(Amount(drop=6), margin)(tokens, Guide(tokens.mask)).decision[0].tolist()
    want = loops(keys[0], 6, margin)
    assert {a: b for a, b in enumerate(decision) if b not in (-1, a)} == want
    assert len([b for b, own in enumerate(decision) if b == own]) == 6


def test_a_merged_token_counts_as_often_as_the_tokens_in_it() -> None:
    # ToMe, equation 1: at equal logits a token of size 3 gets three quarters of the attention.
    bias = attention.key_bias(torch.ones(1, 2), torch.float32, torch.tensor([[1.0, 3.0]]))
    q = torch.zeros(1, 1, 2, 4)
    values = torch.tensor([[[[1.0], [5.0]]]])
    assert attention.fused(q, q, values, bias)[0, 0, 0].tolist() == pytest.approx([0.25 * 1 + 0.75 * 5])


def test_a_step_gives_pitome_the_margin_of_its_layer() -> None:
    action = {"op": "merge", "modality": "image", "amount": {"drop": 1}, "by": "pitome", "margin": 0.5}
    step = SiteReducers("vision.4", [action])
    trace = Trace()
    found = step.of_image(tokens_of(PITOME, [1] * 6), None, trace)
    assert found.states[0, :, 0].tolist() == pytest.approx([1.0, 55.0, 1e3, 1e4, 1e5])
    assert list(trace.taken) == ["vision.4/merge.image"]
    assert "margin 0.5" in repr(step)
