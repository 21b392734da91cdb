"""Kinds that select tokens without a score of the model: by hand, and beside a literal reading of the definition."""

import math

import pytest
import torch

from pumer_convert.amount import Amount
from pumer_convert.reducers.base import Guide
from pumer_convert.reducers.divprune import DivPruneReducer
from pumer_convert.reducers.uniform_prune import UniformPruneReducer
from pumer_convert.reducers.visionzip import VisionZipReducer
from pumer_convert.tokens import Tokens


def tokens_at(degrees: list[float], frozen: int = 0) -> Tokens:
    """Tokens whose keys point in these directions; their states are their places."""
    angles = torch.tensor(degrees) * math.pi / 180
    keys = torch.stack([angles.cos(), angles.sin()], -1)[None] * torch.tensor([1.0, 7.0, 0.5, 3.0])[len(degrees) % 4]
    places = torch.arange(float(len(degrees)))[None, :, None]
    return Tokens.start(places, torch.ones_like(places[..., 0], dtype=torch.bool), first=frozen).with_keys(keys)


def diverse(tokens: Tokens, k: int) -> list[int]:
    taken = DivPruneReducer(Amount(keep=k))(tokens, Guide(tokens.mask))
    found: list[int] = taken.decision[0].tolist()
    assert taken.tokens.states[0, :, 0].tolist() == found
    return found


def test_divprune_by_hand() -> None:
    degrees = [0.0, 10, 20, 100, 104, 180]
    # 180 is 76 from the one nearest to it, all others are nearer to theirs. 0 is opposite. Between them 100 and 104 are
    # 80 and 76 from the nearer end, then 20 is 20, 10 is 10 and 104 is 4 from what is chosen.
    for k, kept in enumerate(([5], [0, 5], [0, 3, 5], [0, 2, 3, 5], [0, 1, 2, 3, 5], list(range(6))), 1):
        assert diverse(tokens_at(degrees), k) == kept


def test_what_is_frozen_comes_first_and_the_rest_lies_far_from_it() -> None:
    assert diverse(tokens_at([180.0, 10, 20, 100, 104, 0], frozen=1), 2) == [0, 5]
    assert diverse(tokens_at([20.0, 10, 30, 100, 104, 180], frozen=1), 3) == [0, 3, 5]


def test_duplicates_are_taken_last_and_none_twice() -> None:
    assert diverse(tokens_at([0.0, 0, 90, 90, 180]), 3) == [0, 2, 4]
    assert diverse(tokens_at([0.0, 0, 0, 0]), 3) == [0, 1, 2]


def literal(keys: torch.Tensor, k: int) -> list[int]:
    """The definition, token by token."""
    n = len(keys)
    far = [[1 - float(torch.dot(a, b) / (a.norm() * b.norm())) for b in keys] for a in keys]
    chosen = [max(range(n), key=lambda i: min(far[i][j] for j in range(n) if j != i))]
    while len(chosen) < k:
        chosen.append(max((i for i in range(n) if i not in chosen), key=lambda i: min(far[i][j] for j in chosen)))
    return sorted(chosen)


@pytest.mark.parametrize("k", [1, 7, 20, 39])
def test_divprune_is_its_definition_for_every_example(k: int) -> None:
    keys = torch.randn(3, 40, 6, generator=torch.Generator().manual_seed(k))
    tokens = Tokens.start(keys, torch.ones(3, 40, dtype=torch.bool)).with_keys(keys)
    found = DivPruneReducer(Amount(keep=k))(tokens, Guide(tokens.mask))
    assert found.decision.tolist() == [literal(row.double(), k) for row in keys]
    again = DivPruneReducer(Amount(keep=k))(tokens, Guide(tokens.mask, decision=found.decision))
    assert again.slack is not None
    assert again.slack.tolist() == [0, 0, 0]


def test_the_slack_of_a_set_is_what_its_worst_pick_was_behind() -> None:
    tokens = tokens_at([0.0, 10, 20, 100, 104, 180])
    reducer = DivPruneReducer(Amount(keep=3))

    def slack(places: list[int]) -> float:
        found = reducer(tokens, Guide(tokens.mask, decision=torch.tensor([places]))).slack
        assert found is not None
        return float(found)

    def distance(degrees: float) -> float:
        return 1 - math.cos(math.radians(degrees))

    assert slack([0, 3, 5]) == 0
    assert slack([0, 4, 5]) == pytest.approx(distance(80) - distance(76), abs=1e-6)
    assert slack([0, 1, 5]) == pytest.approx(distance(80) - distance(10), abs=1e-6)


@pytest.mark.parametrize(
    ("n", "k", "kept"),
    [(8, 4, [0, 2, 4, 6]), (9, 3, [1, 4, 7]), (4, 1, [1]), (5, 5, [0, 1, 2, 3, 4]), (10, 4, [1, 3, 6, 8])],
)
def test_uniform_by_hand(n: int, k: int, kept: list[int]) -> None:
    tokens = tokens_at([float(i) for i in range(n)])
    found = UniformPruneReducer(Amount(keep=k))(tokens, Guide(tokens.mask)).decision
    assert found.tolist() == [kept]


def test_uniform_spares_what_is_frozen_and_counts_no_padding() -> None:
    states = torch.randn(2, 9, 4)
    mask = torch.arange(9) < torch.tensor([[9], [5]])
    tokens = Tokens.start(states, mask, first=1).with_keys(states)
    found = UniformPruneReducer(Amount.share("1/3"))(tokens, Guide(tokens.mask)).decision
    assert found.tolist() == [[0, 1, 3, 4, 6, 8], [0, 1, 3, -1, -1, -1]]


def test_visionzip_by_hand() -> None:
    # 1 and 4 are dominant. Of 0, 2, 3, 5, 6 two at even distances are contextual, 0 and 3 (every second of five); 2 is
    # most like 0, and 5 and 6 are most like 3.
    tokens = tokens_at([0.0, 45, 10, 90, 45, 80, 120])
    score = torch.tensor([[0.1, 0.9, 0.2, 0.3, 0.8, 0.1, 0.1]])
    found = VisionZipReducer(Amount(keep=4), contextual=0.5)(tokens, Guide(tokens.mask, score))
    assert found.decision.tolist() == [[0, 8, 0, 3, 11, 3, 3]]
    assert found.tokens.states[0, :, 0].tolist() == [0 + 2, 1, 3 + (5 + 6) / 2, 4]
    assert found.tokens.sizes.tolist() == [[2, 1, 3, 1]]
    assert found.tokens.source is not None
    assert found.tokens.source.tolist() == [[0, 1, 0, 2, 3, 2, 2]]


def test_visionzip_keeps_what_is_frozen_and_counts_no_padding() -> None:
    states = torch.randn(2, 12, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(12) < torch.tensor([[12], [7]])
    tokens = Tokens.start(states, mask, first=1).with_keys(states)
    score = torch.rand(2, 12, generator=torch.Generator().manual_seed(1))
    score[:, 0] = 0
    reducer = VisionZipReducer(Amount.share("1/2"), contextual=0.4)
    found = reducer(tokens, Guide(tokens.mask, score))
    short = Tokens.start(states[1:, :7], mask[1:, :7], first=1).with_keys(states[1:, :7])
    alone = reducer(short, Guide(short.mask, score[1:, :7]))
    assert found.tokens.mask.sum(1).tolist() == [6, 3]
    torch.testing.assert_close(found.tokens.states[1, :3], alone.tokens.states[0])
    torch.testing.assert_close(found.tokens.states[:, 0], states[:, 0])
    assert found.tokens.sizes[found.tokens.mask].sum() == 12 + 7


def test_visionzip_without_summaries_is_pruning_by_attention() -> None:
    tokens, score = tokens_at([0.0, 45, 10, 90]), torch.tensor([[0.1, 0.9, 0.2, 0.3]])
    found = VisionZipReducer(Amount(keep=2), contextual=0.0)(tokens, Guide(tokens.mask, score))
    assert found.tokens.states[0, :, 0].tolist() == [1, 3]
    assert found.decision.tolist() == [[-1, 5, -1, 7]]


def test_the_slack_of_summaries() -> None:
    tokens = tokens_at([0.0, 45, 10, 90, 45, 80, 120])
    score = torch.tensor([[0.1, 0.9, 0.2, 0.3, 0.8, 0.1, 0.1]])
    reducer = VisionZipReducer(Amount(keep=4), contextual=0.5)

    def slack(decision: list[int]) -> float:
        found = reducer(tokens, Guide(tokens.mask, score, torch.tensor([decision]))).slack
        assert found is not None
        return float(found)

    assert slack([0, 8, 0, 3, 11, 3, 3]) == 0
    cosines = math.cos(math.radians(10)), math.cos(math.radians(80))
    assert slack([0, 8, 3, 3, 11, 3, 3]) == pytest.approx(cosines[0] - cosines[1], abs=1e-6)
    # 3 instead of 4 is dominant: 0 and 4 are contextual then.
    assert slack([0, 8, 0, 10, 4, 4, 4]) == pytest.approx((0.8 - 0.3) / 0.9, abs=1e-6)
    assert slack([0, 8, 2, 3, 11, 3, 3]) == math.inf
