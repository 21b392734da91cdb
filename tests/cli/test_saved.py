"""The demo's checkpoint, saved with reducers: it loads, equals its ONNX file, and is built into an engine."""

import json
from pathlib import Path

import onnx
import pytest
import tiny

from pumer_convert.convert.load import load
from pumer_convert.export.folder import verify_export
from pumer_convert.verification.verify import Case


@pytest.mark.parametrize(
    ("name", "functions"), [("demo", "Prune Merge"), ("published_demo", "PruneReference MergeReference")]
)
def test_it_equals_its_onnx_file_and_has_an_engine(request: pytest.FixtureRequest, name: str, functions: str) -> None:
    out: Path = request.getfixturevalue(name)
    report = json.loads((out / "report.json").read_text())
    assert report["plan"]["rows"][-1]["image_out"] == 31
    inputs = tiny.batch(text=32)
    assert load(out)(**inputs).image.states.shape[1] == 31
    verified = verify_export(out, cases=tuple(Case(b, t) for b in (1, 2, 5) for t in (4, 17, 40)))
    assert verified["verification"]["logits_error"] < 1e-4
    model = onnx.load(out / "model.onnx")
    assert {f.name for f in model.functions} == set(functions.split())
    assert "Scatter" not in " ".join(n.op_type for f in (model.graph, *model.functions) for n in f.node)
    assert [o.name for o in model.graph.output] == ["logits"]
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    sidecar = json.loads((out / "model.engine.json").read_text())
    assert (out / "model.engine").stat().st_size == sidecar["engine"]["bytes"] > 100_000
    assert sidecar["profiles"][0]["input_ids"] == [[1, 4], [1, 32], [8, 40]]
    assert sidecar["labels"]["0"] == "yes"
