"""Properties that every reducer keeps, over lengths, amounts, padding and ties."""

import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from pumer_convert.amount import Amount
from pumer_convert.reducers import KINDS as ALL
from pumer_convert.reducers.base import Guide, Reduction
from pumer_convert.tokens import Tokens

amounts = st.one_of(
    st.tuples(st.integers(0, 9), st.sampled_from([10, 7, 5])).map(
        lambda pair: Amount(num=min(pair[0], pair[1] - 1), den=pair[1])
    ),
    st.integers(1, 9).map(lambda n: Amount(drop=n)),
    st.integers(1, 9).map(lambda n: Amount(keep=n)),
)
KINDS = {
    "prune": ALL["prune"]["relevance"].load(),
    "divprune": ALL["prune"]["divprune"].load(),
    "cdpruner": ALL["prune"]["cdpruner"].load(),
    "prumerge": ALL["prune"]["prumerge"].load(),
    "visionzip": ALL["prune"]["visionzip"].load(),
    "merge": ALL["merge"]["tome"].load(),
    "pitome": ALL["merge"]["pitome"].load(),
}
PRUNING = ("prune", "divprune", "cdpruner", "prumerge", "visionzip")
SUMMING = ("prumerge", "visionzip")
"""Those that leave sums of others, which are no means."""


def make(lengths: list[int], n: int, seed: int, ties: bool) -> tuple[Tokens, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    b = len(lengths)
    mask = torch.arange(n) < torch.tensor(lengths)[:, None]
    states, keys = torch.randn(b, n, 6, generator=generator), torch.randn(b, n, 4, generator=generator)
    relevance = torch.rand(b, n, generator=generator)
    if ties:
        # One-hot keys: cosines are exactly 0 or 1 in any order of summation.
        keys = torch.nn.functional.one_hot(keys.argmax(-1), 4).float()
        relevance = (relevance * 3).round()
    tokens = Tokens.start(states, mask, first=1)
    return tokens.with_keys(keys), relevance


def reduce(kind: str, amount: Amount, tokens: Tokens, relevance: torch.Tensor) -> Reduction:
    return KINDS[kind](amount)(tokens, Guide(tokens.mask, relevance))


shapes = st.integers(1, 24).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(st.integers(1, n), min_size=1, max_size=3))
)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in SUMMING])
@settings(max_examples=60, deadline=None)
@given(shape=shapes, amount=amounts, seed=st.integers(0, 99), ties=st.booleans())
def test_contracts(kind: str, shape: tuple[int, list[int]], amount: Amount, seed: int, ties: bool) -> None:
    n, lengths = shape
    tokens, relevance = make(lengths, n, seed, ties)
    result = reduce(kind, amount, tokens, relevance)
    out = result.tokens
    assert torch.isfinite(out.states).all()
    for row, length in enumerate(lengths):
        room = length - 1 if kind in PRUNING else (length - 1) // 2
        left = length - min(amount.removed(length, length), room)
        assert int(out.mask[row].sum()) == left
        assert out.mask[row, :left].all(), "valid tokens stand in front"
        total = left if kind in PRUNING else length
        assert float(out.sizes[row][out.mask[row]].sum()) == total, "sizes sum up"
        torch.testing.assert_close(out.states[row, 0], tokens.states[row, 0], msg="CLS stays")
        assert out.source is not None
        assert int((out.source[row] >= 0).sum()) == total
        for place in range(left):
            members = tokens.states[row][out.source[row] == place]
            torch.testing.assert_close(out.states[row, place], members.mean(0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 20),
    pad=st.integers(0, 9),
    amount=amounts,
    seed=st.integers(0, 99),
    ties=st.booleans(),
)
def test_padding_changes_nothing(kind: str, length: int, pad: int, amount: Amount, seed: int, ties: bool) -> None:
    tokens, relevance = make([length], length + pad, seed, ties)
    assert tokens.keys is not None
    bare = Tokens.start(tokens.states[:, :length], tokens.mask[:, :length], first=1).with_keys(tokens.keys[:, :length])
    padded, alone = reduce(kind, amount, tokens, relevance), reduce(kind, amount, bare, relevance[:, :length])
    k = alone.tokens.states.shape[1]
    torch.testing.assert_close(padded.tokens.states[:, :k], alone.tokens.states, atol=1e-6, rtol=1e-6)
    assert torch.equal(padded.tokens.sizes[:, :k], alone.tokens.sizes)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_remove_is_the_identity_bit_for_bit(kind: str) -> None:
    tokens, relevance = make([9, 5], 9, 0, False)
    out = reduce(kind, Amount(), tokens, relevance).tokens
    assert torch.equal(out.states[out.mask], tokens.states[tokens.mask])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_kept_token(kind: str) -> None:
    tokens, relevance = make([9], 9, 0, False)
    states = tokens.states.clone().requires_grad_(True)
    out = reduce(kind, Amount.share("0.3"), tokens.with_states(states), relevance).tokens
    out.states.sum().backward()
    reached = (states.grad.abs().sum(-1) > 0)[0]  # type: ignore[union-attr]
    assert out.source is not None
    assert torch.equal(reached, out.source[0] >= 0)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in PRUNING[1:]])
def test_a_given_decision_is_followed_and_its_slack_measured(kind: str) -> None:
    tokens, relevance = make([9, 7], 9, 3, False)
    reducer = KINDS[kind](Amount.share("0.3"))
    own = reducer(tokens, Guide(tokens.mask, relevance))
    again = reducer(tokens, Guide(tokens.mask, relevance, own.decision))
    assert torch.equal(again.tokens.states, own.tokens.states)
    assert float(again.slack.max()) == 0.0
    worse = reducer(tokens, Guide(tokens.mask, 1 - relevance)).decision if kind == "prune" else own.decision.roll(1, 1)
    assert float(reducer(tokens, Guide(tokens.mask, relevance, worse)).slack.max()) > 0.0


def session(kind: str, amount: Amount, stays: int = 1) -> onnxruntime.InferenceSession:
    """The reducer's ONNX function as a model of its own."""
    reducer = KINDS[kind](amount)
    function = onnx.parser.parse_function(reducer.body())
    floats = {"states": ["b", "n", 6], "keys": ["b", "n", 4], "size": ["b", "n"], "relevance": ["b", "n"]}
    floats["weight"] = floats["relevance"]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, floats[name])
        if name in floats
        else helper.make_tensor_value_info(name, TensorProto.BOOL, ["b", "n"])
        for name in reducer.inputs
    ]
    types = {
        "index": TensorProto.INT64,
        "into": TensorProto.INT64,
        "chosen": TensorProto.INT64,
        "target": TensorProto.INT64,
        "kept_mask": TensorProto.BOOL,
    }
    types |= {"merged_mask": TensorProto.BOOL, "merged_frozen": TensorProto.BOOL}
    outputs = [
        helper.make_tensor_value_info(
            o, types.get(o, TensorProto.FLOAT), [None] * (3 if o.endswith(("states", "keys", "chosen")) else 2)
        )
        for o in function.output
    ]
    names = [i.name for i in inputs]
    node = helper.make_node(reducer.function, names, list(function.output), domain="pumer", **reducer.values(stays))
    graph = helper.make_graph([node], "one", inputs, outputs)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("pumer", 1)]
    model = helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("amount", [Amount.share("0.3"), Amount.share("1/2"), Amount(drop=4), Amount(keep=5)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_onnx_function_decides_the_same(kind: str, amount: Amount) -> None:
    run = session(kind, amount)
    for n in (1, 2, 3, 4, 7, 10, 15, 23) if kind in PRUNING else (2, 3, 4, 7, 10, 15, 23):
        for ties in (False, True):
            tokens, relevance = make([n, max(1, n - 2), 1], n, n, ties)
            own = reduce(kind, amount, tokens, relevance)
            assert tokens.keys is not None
            given = {"states": tokens.states, "keys": tokens.keys, "mask": tokens.mask, "frozen": tokens.held}
            given |= {"relevance": relevance, "weight": relevance, "entry": tokens.mask, "size": tokens.sizes}
            out = run.run(None, {name: given[name].numpy() for name in KINDS[kind].inputs})
            assert torch.equal(torch.from_numpy(out[-1]), own.decision), (n, ties)
            mask = torch.from_numpy(out[2])
            assert torch.equal(mask, own.tokens.mask)
            torch.testing.assert_close(torch.from_numpy(out[0])[mask], own.tokens.states[mask])
