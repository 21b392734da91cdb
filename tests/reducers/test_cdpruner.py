"""A conditional determinantal point process, greedily: by hand, and beside a literal reading of the definition."""

import math
from dataclasses import replace

import pytest
import torch

from pumer_convert.amount import Amount
from pumer_convert.reducers.base import Guide
from pumer_convert.reducers.cdpruner import CdPrunerReducer
from pumer_convert.tokens import Tokens


def tokens_of(keys: list[list[float]], frozen: int = 0) -> Tokens:
    values = torch.tensor(keys)[None]
    places = torch.arange(float(len(keys)))[None, :, None]
    return Tokens.start(places, torch.ones_like(places[..., 0], dtype=torch.bool), first=frozen).with_keys(values)


def kept(tokens: Tokens, k: int, relevance: list[float] | None = None) -> list[int]:
    guide = Guide(tokens.mask, None if relevance is None else torch.tensor([relevance]))
    found = CdPrunerReducer(Amount(keep=k))(tokens, guide)
    places: list[int] = found.decision[0].tolist()
    assert found.tokens.states[0, :, 0].tolist() == places
    return places


def test_diversity_by_hand() -> None:
    # All are worth 1, so the first token goes first. Its opposite is explained by it, as far as it lies; of the rest
    # the one that stands upright on both axes so far is worth 1, then the one at 80 degrees sin(80)^2.
    degrees = math.radians(30), math.radians(80)
    keys = [[1.0, 0, 0], [-1.0, 0, 0], *([math.cos(d), math.sin(d), 0] for d in degrees), [0, 0, 1.0]]
    for k, expected in enumerate(([0], [0, 4], [0, 3, 4]), 1):
        assert kept(tokens_of(keys), k) == expected


def test_length_does_not_count_and_duplicates_come_last() -> None:
    assert kept(tokens_of([[3.0, 0], [9.0, 0], [0, 0.1], [0, 5.0]]), 2) == [0, 2]
    assert kept(tokens_of([[3.0, 0], [9.0, 0], [0, 0.1], [0, 5.0]]), 3) == [0, 1, 2]


def test_relevance_by_hand() -> None:
    upright = torch.eye(4).tolist()
    assert kept(tokens_of(upright), 2) == [0, 1]
    assert kept(tokens_of(upright), 2, [3.0, 1.0, 2.0, 5.0]) == [0, 3]
    # The second is much like the first: of its relevance of 0.8 the share 1 - 0.9^2 is its own.
    keys = [[1.0, 0, 0], [0.9, math.sqrt(1 - 0.81), 0], [0, 0, 1.0], [0, 0, 1.0]]
    own = 0.8**2 * (1 - 0.9**2)
    for relevance, second in ((math.sqrt(own) - 0.01, 1), (math.sqrt(own) + 0.01, 2)):
        assert kept(tokens_of(keys), 2, [1.0, 0.8, relevance, 0.0]) == [0, second]


def test_a_relevance_that_is_equal_for_all_is_none() -> None:
    keys = torch.randn(12, 6, generator=torch.Generator().manual_seed(0)).tolist()
    assert kept(tokens_of(keys), 5, [0.7] * 12) == kept(tokens_of(keys), 5)


def test_what_is_frozen_comes_first_and_explains_others() -> None:
    keys = [[0.0, 0, 1], [0, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert kept(tokens_of(keys, frozen=1), 2) == [0, 2]
    assert kept(tokens_of(keys, frozen=1), 2, [9.0, 0.5, 0.2, 0.4]) == [0, 3]


def literal(keys: torch.Tensor, relevance: torch.Tensor | None, k: int) -> list[int]:
    """The definition: again and again the token with which the determinant of the kernel is largest."""
    unit = keys / keys.norm(dim=1, keepdim=True)
    kernel = unit @ unit.T
    if relevance is not None:
        quality = (relevance - relevance.min() + 1e-6) / (relevance.max() - relevance.min())
        kernel = quality[:, None] * kernel * quality
    chosen: list[int] = []
    for _ in range(k):
        sets = [[*chosen, i] for i in range(len(keys)) if i not in chosen]
        volumes = [round(float(torch.linalg.slogdet(kernel[those][:, those])[1]), 9) for those in sets]
        chosen = sets[volumes.index(max(volumes))]
    return sorted(chosen)


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("k", [1, 5, 13])
def test_it_is_its_definition_for_every_example(k: int, asked: bool) -> None:
    generator = torch.Generator().manual_seed(k)
    keys = torch.randn(3, 40, 24, generator=generator)
    relevance = torch.rand(3, 40, generator=generator) * torch.tensor([[1.0], [0.1], [5.0]]) if asked else None
    tokens = Tokens.start(keys, torch.ones(3, 40, dtype=torch.bool)).with_keys(keys)
    reducer = CdPrunerReducer(Amount(keep=k))
    found = reducer(tokens, Guide(tokens.mask, relevance))
    asks = [None] * 3 if relevance is None else list(relevance.double())
    expected = [literal(row.double(), own, k) for row, own in zip(keys, asks, strict=True)]
    assert found.decision.tolist() == expected, "each by its own scale of relevance"
    again = reducer(tokens, Guide(tokens.mask, relevance, found.decision))
    assert again.slack is not None
    assert again.slack.tolist() == [0, 0, 0]


def test_the_slack_of_a_set_is_what_its_worst_pick_was_worth_less() -> None:
    keys = [[1.0, 0, 0], [math.cos(0.5), math.sin(0.5), 0], [0, 0, 1.0]]
    tokens = tokens_of(keys)
    guide = Guide(tokens.mask, decision=torch.tensor([[0, 1]]))
    slack = CdPrunerReducer(Amount(keep=2))(tokens, guide).slack
    assert slack is not None
    assert float(slack) == pytest.approx(1 - math.sin(0.5) ** 2, abs=1e-6)
    assert float(CdPrunerReducer(Amount(keep=2))(tokens, replace(guide, decision=torch.tensor([[0, 2]]))).slack) == 0


def test_more_than_the_width_of_the_keys_are_kept_by_their_places() -> None:
    keys = torch.randn(1, 30, 3, generator=torch.Generator().manual_seed(1))
    tokens = Tokens.start(keys, torch.ones(1, 30, dtype=torch.bool)).with_keys(keys)
    first = CdPrunerReducer(Amount(keep=3))(tokens, Guide(tokens.mask)).decision[0].tolist()
    more = CdPrunerReducer(Amount(keep=9))(tokens, Guide(tokens.mask)).decision[0].tolist()
    rest = [place for place in range(30) if place not in first][:6]
    assert more == sorted([*first, *rest])
