"""PruMerge for a fixed number of tokens: by hand, and beside a literal reading of the definition."""

import math

import pytest
import torch

from pumer_convert.amount import Amount
from pumer_convert.reducers.base import Guide
from pumer_convert.reducers.prumerge import PruMergeReducer
from pumer_convert.reducers.uniform_prune import spaced
from pumer_convert.tokens import Tokens

ATTENTION = [0.1, 0.4, 0.2, 0.3, 0.35, 0.05, 0.05]


def tokens_at(degrees: list[float], frozen: int = 0) -> Tokens:
    """Tokens whose keys point in these directions; their states are their places."""
    angles = torch.tensor(degrees) * math.pi / 180
    places = torch.arange(float(len(degrees)))[None, :, None]
    tokens = Tokens.start(places, torch.ones_like(places[..., 0], dtype=torch.bool), first=frozen)
    return tokens.with_keys(torch.stack([angles.cos(), angles.sin()], -1)[None] * 3)


def test_by_hand() -> None:
    # 1 and 4 are kept, and each is what is most like the other; the third is the sum of the rest.
    tokens, score = tokens_at([0.0, 45, 10, 90, 45, 80, 120]), torch.tensor([ATTENTION])
    found = PruMergeReducer(Amount(keep=3), neighbors=1)(tokens, Guide(tokens.mask, score))
    assert found.decision.tolist() == [[[1, 4], [4, 1], [-1, -1]]]
    gone = 0.2 * 2 + 0.3 * 3 + 0.05 * (5 + 6)
    assert found.tokens.states[0, :, 0].tolist() == pytest.approx([1 + 0.35 * 4, 4 + 0.4 * 1, gone])
    assert found.tokens.sizes.tolist() == [[1, 1, 5]]
    assert found.tokens.source is not None
    assert found.tokens.source.tolist() == [[2, 0, 2, 2, 1, 2, 2]]
    assert found.tokens.keys is not None
    weights = torch.tensor(ATTENTION) * torch.tensor([1.0, 0, 1, 1, 0, 1, 1])
    assert tokens.keys is not None
    torch.testing.assert_close(found.tokens.keys[0, 2], weights @ tokens.keys[0])


def test_one_token_has_no_room_for_a_sum() -> None:
    tokens, score = tokens_at([0.0, 45, 12, 90, 45, 80, 120]), torch.tensor([ATTENTION])
    found = PruMergeReducer(Amount(keep=1), neighbors=2)(tokens, Guide(tokens.mask, score))
    assert found.decision.tolist() == [[[1, 2, 4]]]
    assert found.tokens.states[0, :, 0].tolist() == pytest.approx([1 + 0.2 * 2 + 0.35 * 4])


def test_what_is_frozen_stays_as_it_is_and_comes_to_none() -> None:
    tokens, score = tokens_at([45.0, 45, 10, 90, 50], frozen=1), torch.tensor([[9.0, 0.4, 0.2, 0.3, 0.1]])
    found = PruMergeReducer(Amount(keep=3), neighbors=1)(tokens, Guide(tokens.mask, score))
    assert found.decision.tolist() == [[[0, -1], [1, 4], [-1, -1]]]
    assert found.tokens.states[0, :, 0].tolist() == pytest.approx([0, 1 + 0.1 * 4, 0.2 * 2 + 0.3 * 3 + 0.1 * 4])
    assert found.tokens.held.tolist() == [[True, False, False]], "the sum is as free as what is in it"


def test_padding_is_in_no_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    states, score = torch.randn(2, 12, 4, generator=generator), torch.rand(2, 12, generator=generator)
    mask = torch.arange(12) < torch.tensor([[12], [7]])
    tokens = Tokens.start(states, mask).with_keys(states)
    reducer = PruMergeReducer(Amount.share("1/2"), neighbors=9, spatial=0.4)
    found = reducer(tokens, Guide(tokens.mask, score))
    short = Tokens.start(states[1:, :7], mask[1:, :7]).with_keys(states[1:, :7])
    alone = reducer(short, Guide(short.mask, score[1:, :7]))
    assert found.tokens.mask.sum(1).tolist() == [6, 3]
    torch.testing.assert_close(found.tokens.states[1, :3], alone.tokens.states[0, :3])
    assert found.tokens.sizes[found.tokens.mask].sum() == 12 + 7


@pytest.mark.parametrize(("spatial", "kept"), [(0.0, [0, 1, 2, 3]), (0.5, [0, 1, 2, 6]), (1.0, [1, 3, 5, 7])])
def test_some_stand_at_even_distances(spatial: float, kept: list[int]) -> None:
    tokens, score = tokens_at([10.0 * i for i in range(8)]), torch.linspace(0.8, 0.1, 8)[None]
    found = PruMergeReducer(Amount(keep=5), spatial=spatial)(tokens, Guide(tokens.mask, score))
    assert found.decision[0, :, 0].tolist() == [*kept, -1]


def test_a_published_picture_has_every_eighth_token_from_the_fifth_on() -> None:
    place, n = torch.arange(1, 577)[None], torch.tensor([[576]])
    found = spaced(n + 1 - place, n, torch.tensor([[72]]))
    assert found[0].nonzero()[:, 0].tolist() == list(range(4, 576, 8))


def literal(states: torch.Tensor, keys: torch.Tensor, attention: torch.Tensor, k: int) -> torch.Tensor:
    """The definition, token by token: k that are kept in place order, and the sum of the rest."""
    n = len(states)
    unit = keys / keys.norm(dim=1, keepdim=True)
    kept = sorted(sorted(range(n), key=lambda i: -float(attention[i]))[:k])
    rows = []
    for i in kept:
        near = sorted((j for j in range(n) if j != i), key=lambda j: -float(unit[i] @ unit[j]))[:32]
        rows.append(states[i] + sum(attention[j] * states[j] for j in near))
    rest = [attention[j] * states[j] for j in range(n) if j not in kept]
    return torch.stack([*rows, torch.stack(rest).sum(0)])


def test_it_is_its_definition_for_every_example() -> None:
    generator = torch.Generator().manual_seed(3)
    states, keys = torch.randn(2, 50, 6, generator=generator), torch.randn(2, 50, 5, generator=generator)
    attention = torch.randn(2, 50, generator=generator).softmax(1)
    tokens = Tokens.start(states, torch.ones(2, 50, dtype=torch.bool)).with_keys(keys)
    found = PruMergeReducer(Amount(keep=13))(tokens, Guide(tokens.mask, attention))
    expected = torch.stack([literal(*row, 12) for row in zip(states.double(), keys.double(), attention, strict=True)])
    torch.testing.assert_close(found.tokens.states, expected.float())


def test_the_slack_of_a_decision() -> None:
    tokens, score = tokens_at([0.0, 45, 10, 90, 45, 80, 120]), torch.tensor([ATTENTION])
    reducer = PruMergeReducer(Amount(keep=3), neighbors=1)

    def slack(decision: list[list[int]]) -> float:
        found = reducer(tokens, Guide(tokens.mask, score, torch.tensor([decision]))).slack
        assert found is not None
        return float(found)

    assert slack([[1, 4], [4, 1], [-1, -1]]) == 0
    assert slack([[1, 2], [4, 1], [-1, -1]]) == pytest.approx(1 - math.cos(math.radians(35)), abs=1e-6)
    assert slack([[1, 4], [3, 5], [-1, -1]]) == pytest.approx((0.35 - 0.3) / 0.4, abs=1e-6)
