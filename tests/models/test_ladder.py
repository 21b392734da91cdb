"""The parity ladder, the same for every family and every graph of it: dense = inserted with ratio 0 = saved and loaded
= ONNX Runtime; and padding changes nothing. That dense is the original stands with each family."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import ladder
import numpy as np
import pytest
import torch

from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.apply import apply
from pumer_convert.convert.build import build
from pumer_convert.convert.load import load, signature_of
from pumer_convert.export.folder import export_folder
from pumer_convert.models.body import Body
from pumer_convert.models.family import FAMILIES, family_of
from pumer_convert.models.signature import Signature
from pumer_convert.reducers.site import Trace
from pumer_convert.runtime import open_runtime
from pumer_convert.verification.session import open_graph
from pumer_convert.verification.verify import Case, Inputs, sample, tensors

CASES = sorted(ladder.MADE)
EXPORTED = [case for case in CASES if case[1] in ("vqa", "embeddings")]
SHAPES = (Case(1, 2, padded=False), Case(3, 7), Case(2, 40), Case(2, 11, ties=True))


@pytest.fixture(autouse=True, scope="module")
def toys() -> Iterator[None]:
    yield from ladder.registered()


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def signatures(folder: Path) -> list[Signature]:
    checkpoint = open_checkpoint(folder)
    spec = family_of(checkpoint.family).spec(checkpoint.config)
    return [signature_of(checkpoint, graph.name) for graph in spec.graphs]


def run(model: Body, signature: Signature, inputs: Inputs) -> dict[str, torch.Tensor]:
    return model.run(signature.name, tensors(inputs, torch.float32)).outputs


def test_every_family_stands_on_it() -> None:
    assert set(FAMILIES) == {family for family, *_ in CASES}


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_ratio_zero_saved_and_loaded_changes_no_bit(case: tuple[str, ...], tmp_path: Path) -> None:
    source = ladder.MADE[case](tmp_path / "dense")
    apply(source, ladder.recipe(source, tmp_path / "r.yaml", 0), tmp_path / "zero")
    saved = open_checkpoint(tmp_path / "zero")
    zero, original = load(saved.path), load(source)
    # The same file: how a weight lies in memory may change a last bit.
    dense = build(replace(saved, config={name: value for name, value in saved.config.items() if name != "pumer"}))
    for signature in signatures(source):
        for shape in SHAPES:
            inputs = sample(signature, shape)
            for name, value in run(zero, signature, inputs).items():
                assert torch.equal(value, run(dense, signature, inputs)[name]), (signature.name, shape)
                torch.testing.assert_close(value, run(original, signature, inputs)[name], atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_examples_of_a_batch_are_answered_as_if_alone(case: tuple[str, ...], tmp_path: Path) -> None:
    source = ladder.MADE[case](tmp_path / "dense")
    apply(source, ladder.recipe(source, tmp_path / "r.yaml", 0.1), tmp_path / "out")
    model = load(tmp_path / "out")
    for signature in signatures(source):
        inputs = sample(signature, Case(3, 17))
        together = run(model, signature, inputs)
        for row in range(3):
            alone = {name: value[row : row + 1] for name, value in inputs.items()}
            if signature.text is not None and signature.text.length is None:
                length = int(alone["attention_mask"].sum())
                alone |= {name: alone[name][:, :length] for name in ("input_ids", "attention_mask")}
            for name, value in run(model, signature, alone).items():
                torch.testing.assert_close(value[0], together[name][row], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("case", EXPORTED, ids="-".join)
def test_onnx_runtime_is_eager(case: tuple[str, ...], tmp_path: Path) -> None:
    source = ladder.MADE[case](tmp_path / "dense")
    apply(source, ladder.recipe(source, tmp_path / "r.yaml", 0.1, few=True), tmp_path / "out")
    report = export_folder(tmp_path / "out", dtype="float32")
    model = load(tmp_path / "out")
    for signature in signatures(source):
        check = report.get("graphs", {signature.name: report})[signature.name]["verification"]
        assert check["logits_error"] < 1e-4
        assert check["worst_slack"] < 1e-4
        file, inputs = tmp_path / "out" / f"{signature.name}.onnx", sample(signature, Case(3, 13))
        with open_graph(file) as session:
            outputs, decisions = session.run(inputs)
        # What is as good for one may be decided otherwise by the other, so eager is given the decisions.
        trace = Trace({name: torch.from_numpy(value) for name, value in decisions.items()})
        forced = model.run(signature.name, tensors(inputs, torch.float32), trace).outputs
        assert all(float(slack.max()) < 1e-4 for slack in trace.slack.values())
        served = open_runtime(file, device="cpu").run(inputs)
        for name, value in outputs.items():
            np.testing.assert_allclose(value, forced[name].numpy(), atol=1e-4, rtol=1e-3)
            np.testing.assert_allclose(served[name], value, atol=1e-6, rtol=1e-6)
