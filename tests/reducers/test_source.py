"""Where the original tokens are: means over the members of a token, and its states back at their places, in eager and
in a graph."""

import warnings
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from onnxscript import optimizer
from torch import Tensor, nn

from pumer_convert.export.onnx import TRANSLATIONS, attach_functions
from pumer_convert.reducers.site import SiteReducers, Trace
from pumer_convert.tokens import Tokens

SITES: dict[str, list[tuple[str, str]]] = {
    "prune, then merge": [("prune", "relevance"), ("merge", "bsm")],
    "prune, then merge by energy": [("prune", "random"), ("merge", "pitome")],
    "reference": [("prune", "relevance"), ("merge", "bsm")],
}


class OneSite(nn.Module):
    """Tokens reduced at a site, then what `asks` of them: the states alone, or also pool and spread."""

    def __init__(self, name: str, asks: bool) -> None:
        super().__init__()
        actions = [
            {"op": op, "modality": "image", "amount": {"share": "1/5" if op == "prune" else "3/10"}, "by": by}
            for op, by in SITES[name]
        ]
        semantics = "reference" if name == "reference" else "default"
        self.site = SiteReducers("vision.0", actions, semantics)
        self.mask, self.asks = torch.float32 if semantics == "reference" else torch.bool, asks

    def forward(self, states: Tensor, mask: Tensor, score: Tensor, trace: Trace | None = None) -> tuple[Tensor, ...]:
        trace = Trace() if trace is None else trace
        tokens = Tokens.start(states, mask.to(self.mask), first=1, mapped=self.asks)
        tokens = self.site.of_image(tokens.with_keys(states.sin()), score, trace)
        asked = (tokens.pool(states), tokens.spread()) if self.asks else ()
        return (tokens.states, *asked, *trace.taken.values())


def example(lengths: list[int], n: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    states = torch.randn(len(lengths), n, 8, generator=generator)
    score = torch.rand(len(lengths), n, generator=generator)
    return states, torch.arange(n) < torch.tensor(lengths)[:, None], score


def exported(model: OneSite, file: Path) -> Any:
    taken = Trace()
    model(*example([9, 7], 9), taken)
    sides = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens", min=2)}
    asked = ["pooled", "spread"] if model.asks else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model.eval(),
            example([9, 7], 9),
            dynamo=True,
            opset_version=20,
            input_names=["states", "mask", "score"],
            output_names=["left", *asked, *taken.taken],
            dynamic_shapes=(sides, sides, sides),
            optimize=False,
            verbose=False,
            custom_translation_table=TRANSLATIONS,
        )
    assert program is not None
    optimizer.fold_constants_ir(program.model)
    optimizer.remove_unused_nodes(program.model)
    attach_functions(program.model, model, 20)
    program.save(str(file))
    return program.model.graph


@pytest.mark.parametrize("name", SITES)
def test_a_graph_pools_and_spreads_as_eager_does(tmp_path: Path, name: str) -> None:
    model = OneSite(name, asks=True)
    exported(model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    for lengths in ([9, 7], [16, 11, 3], [25]):
        given = example(lengths, max(lengths))
        out = session.run(None, {i.name: v.numpy() for i, v in zip(session.get_inputs(), given, strict=True)})
        found = {name: torch.from_numpy(value) for name, value in zip(names, out, strict=True)}
        trace = Trace({name: value for name, value in found.items() if "/" in name})
        left, pooled, spread = model(*given, trace)[:3]
        assert set(trace.taken) == set(trace.given)
        assert found["spread"].shape == found["pooled"].shape[:1] + given[0].shape[1:]
        torch.testing.assert_close(found["pooled"], pooled, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(found["spread"], spread, atol=1e-6, rtol=1e-5)
        if name != "reference":  # whose means do not count sizes, so that those of means are others
            there = pooled.abs().sum(-1) > 0
            torch.testing.assert_close(pooled[there], left[there], atol=1e-5, rtol=1e-5)


def test_a_graph_that_does_not_ask_has_nothing_of_it(tmp_path: Path) -> None:
    graph = exported(OneSite("prune, then merge", asks=False), tmp_path / "m.onnx")
    found = {node.op_type for node in graph}
    assert found & {"CumSum", "ScatterElements", "GatherND"} == set()
    assert {"Prune", "Merge"} <= found


def test_pruned_and_padding_count_nowhere() -> None:
    states = torch.tensor([[[1.0], [10.0]]])
    tokens = Tokens(states, torch.ones(1, 2, dtype=torch.bool), source=torch.tensor([[0, -1, 1, 1, 0, -1]]))
    full = torch.tensor([[[1.0], [2.0], [4.0], [8.0], [16.0], [32.0]]])
    assert tokens.pool(full)[0, :, 0].tolist() == [8.5, 6.0]
    assert tokens.spread()[0, :, 0].tolist() == [1.0, 0.0, 10.0, 10.0, 1.0, 0.0]


def test_of_all_that_stands_alone_both_are_the_identity() -> None:
    states, mask, _ = example([6, 6], 6)
    tokens = Tokens.start(states, mask)
    assert torch.equal(tokens.pool(states), states)
    assert torch.equal(tokens.spread(), states)


def test_half_precision_holds_the_sum_of_large_states() -> None:
    tokens = Tokens(
        torch.zeros(1, 1, 1), torch.ones(1, 1, dtype=torch.bool), source=torch.zeros(1, 4, dtype=torch.int64)
    )
    assert tokens.pool(torch.full((1, 4, 1), 40000.0, dtype=torch.float16)).tolist() == [[[40000.0]]]


def test_without_the_map_there_is_nothing_to_pool() -> None:
    with pytest.raises(ValueError, match="not known where"):
        Tokens(torch.zeros(1, 2, 1), torch.ones(1, 2, dtype=torch.bool)).spread()
