"""A new kind is one file and one line: recipe key, planned cost, eager, ONNX, engine and bench come with it."""

import json
from pathlib import Path

import onnx
import pytest
import tiny
import torch

from pumer_convert.benchmark.reducer_cost import strip_reducers
from pumer_convert.convert.apply import apply, prepare_apply
from pumer_convert.convert.load import load
from pumer_convert.demo import CHECKPOINT
from pumer_convert.errors import InputError
from pumer_convert.export.folder import export_folder
from pumer_convert.export.tensorrt import EngineSettings
from pumer_convert.reducers import KINDS, Kind

BODY = "  - at: encoder.1\n    prune: {image: 50%, by: every_second}\n"


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS["prune"], "every_second", Kind("toy_reducer:EverySecondReducer"))


def test_without_its_line_it_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"prune\.by cannot be 'every_second'; allowed: .*visionzip\."):
        prepare_apply(CHECKPOINT, tiny.recipe(tmp_path / "r.yaml", BODY))


@pytest.mark.usefixtures("toy")
def test_it_goes_the_whole_way(tmp_path: Path) -> None:
    recipe = tiny.recipe(tmp_path / "r.yaml", BODY)
    plan = prepare_apply(CHECKPOINT, recipe).plan
    assert (plan.rows[2].image_in, plan.rows[2].image_out, plan.reducer_macs) == (145, 73, 0)
    apply(CHECKPOINT, recipe, out := tmp_path / "out")
    with torch.no_grad():
        taken = load(out)(**tiny.batch(rows=2)).trace.taken["encoder.1/prune.image"]
    assert taken.tolist() == [list(range(0, 145, 2))] * 2
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    report = export_folder(out, trt=EngineSettings("tensorrt-rtx"), dtype="float32")
    assert report["verification"]["decisions_that_differ"] == 0
    assert json.loads((out / "model.engine.json").read_text())["reductions"]["edits"][0]["actions"][0]["by"] == (
        "every_second"
    )
    free = strip_reducers(out / "model.onnx")
    assert free is not None
    assert [f.name for f in onnx.load_from_string(free).functions] == ["Prune"]
