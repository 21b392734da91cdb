"""Engines: what is built, what the sidecar says, and that a refused or stopped build leaves nothing."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from pumer_convert.errors import InputError, MissingDependencyError
from pumer_convert.export.tensorrt import ORIGIN, EngineSettings, build_engine, check_onnx
from pumer_convert.recipe.schema import Profile

pytest.importorskip("tensorrt_rtx")

RTX = EngineSettings("tensorrt-rtx", compute_capabilities=("8.9",))
HEAD = '<ir_version: 9, opset_import: ["" : 20, "pumer" : 1]>'
GRAPH = """
g (float[batch,text,8] states, float[batch,text] score) => (float[batch,kept,8] kept)
<float[8,8] weight> { wide = MatMul(states, weight)
  kept = pumer.Half(wide, score) }
"""
FUNCTION = '<domain: "pumer", opset_import: ["" : 20]>'
HALF = """ Half (states, score) => (kept) {
  shape = Shape<start=1>(score)
  two = Constant<value=int64[1] {2}>()
  count = Div(shape, two)
  best, index = TopK<axis=1>(score, count)
  place = Unsqueeze(index, two)
  kept = GatherND<batch_dims=1>(states, place)
}
"""
SUM = '[sum_of_parts] y = ScatterElements<axis=1, reduction="add">(x, i, x)'


def write(folder: Path, text: str = GRAPH + FUNCTION + HALF, external: bool = False) -> Path:
    model = onnx.parser.parse_model(HEAD + text)
    if "weight>" in text:
        del model.graph.initializer[:], model.graph.value_info[:]
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(8, dtype=np.float32), "weight"))
    path = folder / "model.onnx"
    onnx.save(model, path, save_as_external_data=external, location="model.onnx.data", size_threshold=0)
    return path


def refuse(path: Path, settings: EngineSettings = RTX, **options: Any) -> str:
    """The sentence with which a build is refused; nothing may be left in its folder."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(InputError) as caught:
        build_engine(path, settings=settings, **options)
    assert sorted(path.parent.iterdir()) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_engine_of_a_function_for_two_targets_with_its_sidecar(tmp_path: Path) -> None:
    path = write(tmp_path)
    profiles = (Profile(), Profile(batch=(2, 4, 4), text=(4, 8, 16)))
    settings = EngineSettings("auto", profiles, ("8.6", "8.9"), workspace_gib=0.5, optimization_level=2)
    steps: list[tuple[str, int, int]] = []
    record = build_engine(path, settings=settings, sidecar={"model": "tiny"}, progress=lambda *step: steps.append(step))
    engine = tmp_path / "model.engine"
    assert json.loads((tmp_path / "model.engine.json").read_text()) == record
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.engine", "model.engine.json", "model.onnx"]
    assert record["engine"] == {
        "file": "model.engine",
        "sha256": hashlib.sha256(engine.read_bytes()).hexdigest(),
        "bytes": engine.stat().st_size,
    }
    assert record["engine"]["bytes"] > 1000
    assert record["onnx"] == {"file": "model.onnx", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert record["compute_capabilities"] == ["8.6", "8.9"]
    assert (record["format"], record["flavour"], record["model"]) == (1, "tensorrt-rtx", "tiny")
    assert record["inputs"][0] == {"name": "states", "dtype": "float32", "shape": ["batch", "text", 8]}
    assert record["outputs"] == [{"name": "kept", "dtype": "float32", "shape": ["batch", "kept", 8]}]
    assert record["profiles"] == [
        {"states": [[1, 4, 8], [1, 32, 8], [8, 40, 8]], "score": [[1, 4], [1, 32], [8, 40]]},
        {"states": [[2, 4, 8], [4, 8, 8], [4, 16, 8]], "score": [[2, 4], [4, 8], [4, 16]]},
    ]
    assert steps
    assert all(step <= total for _, step, total in steps)
    assert "--overwrite" in refuse(path)
    again = build_engine(path, settings=EngineSettings("tensorrt-rtx"), overwrite=True)
    assert again["compute_capabilities"] == "8.0, 8.6, 8.9, 12.0 and later"
    engine.unlink()
    assert "model.engine.json: exists already" in refuse(path)


@pytest.mark.parametrize(
    ("flavour", "module", "extra"), [("tensorrt-rtx", "tensorrt_rtx", "rtx"), ("tensorrt", "tensorrt", "trt")]
)
def test_a_missing_package_is_told_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flavour: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf"pip install 'pumer-convert\[{extra}\]'"):
        build_engine(write(tmp_path), settings=EngineSettings(flavour))
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_a_refused_operator_is_named_by_its_node(tmp_path: Path) -> None:
    head = "g (float[batch,text] x, int64[batch,text] i) => (float[batch,text] y"
    said = refuse(write(tmp_path, f"{head}) {{ {SUM} }}"))
    assert "refuses 1 node: sum_of_parts (ScatterElements): " in said
    model = onnx.load(tmp_path / "model.onnx")
    model.graph.node[0].metadata_props.add(key=ORIGIN, value="encoder.layer.3")
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(InputError, match=r"sum_of_parts \(ScatterElements\) in encoder\.layer\.3: "):
        check_onnx(tmp_path / "model.onnx", "tensorrt-rtx")
    within = f"{FUNCTION} Parts (x, i) => (y) {{ {SUM} }}"
    said = refuse(write(tmp_path, f"{head}, float[batch,text] z) {{ {SUM} z = pumer.Parts(y, i) }} {within}"))
    assert "one of sum_of_parts, pumer::Parts/sum_of_parts (ScatterElements): " in said


def test_a_build_that_fails_gives_the_builders_last_errors(tmp_path: Path) -> None:
    more = HALF.replace("count = Div(shape, two)", "more = Add(shape, two) count = Mul(more, shape)")
    said = refuse(write(tmp_path, GRAPH + FUNCTION + more))
    assert "could not build it: " in said
    assert "no reason" not in said
    assert "CUDA driver" not in said


def test_a_truncated_or_missing_file_is_told(tmp_path: Path) -> None:
    path = write(tmp_path)
    whole = path.read_bytes()
    for size in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert "not a whole ONNX model" in refuse(path)
    path.unlink()
    assert "no such ONNX file" in refuse(path)


def test_weights_beside_the_model_must_be_whole(tmp_path: Path) -> None:
    path = write(tmp_path, external=True)
    weights = tmp_path / "model.onnx.data"
    assert build_engine(path, settings=RTX)["engine"]["bytes"] > 1000
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "not whole; 'weight' ends at byte 256" in refuse(path, overwrite=True)
    weights.unlink()
    assert "'model.onnx.data' is missing" in refuse(path, overwrite=True)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("from the caller")])
def test_an_exception_in_the_callback_stops_the_build_and_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    calls: list[int] = []

    def stop(phase: str, step: int, total: int) -> None:
        calls.append(step)
        raise error

    with pytest.raises(type(error)) as caught:
        build_engine(write(tmp_path), settings=RTX, progress=stop)
    assert caught.value is error
    assert len(calls) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (EngineSettings("tensorrt-rtx", compute_capabilities=("8.9", "9.0")), "'9.0' is not a target here; offered: 7"),
        (EngineSettings("tensorrt-rtx", compute_capabilities=("89",)), "8.6, 8.9, 12.0"),
        (EngineSettings("tensort"), "Did you mean 'tensorrt'"),
        (EngineSettings("tensorrt-rtx", profiles=(Profile(batch=(4, 1, 8)),)), "batch must be"),
        (EngineSettings("tensorrt-rtx", profiles=(Profile(text=(0, 1, 8)),)), "text must be"),
        (EngineSettings("tensorrt-rtx", workspace_gib=0), "workspace"),
        (EngineSettings("tensorrt-rtx", optimization_level=6), "optimisation level 6"),
    ],
)
def test_settings_that_cannot_be_used_are_told(tmp_path: Path, settings: EngineSettings, said: str) -> None:
    assert said in refuse(write(tmp_path), settings)


@pytest.mark.parametrize("side", ["width", ""])
def test_only_batch_and_text_may_be_dynamic(tmp_path: Path, side: str) -> None:
    path = write(tmp_path, f"g (float[batch,{side or 'text'}] x) => (float[batch,n] y) {{ y = Relu(x) }}")
    if not side:
        model = onnx.load(path)
        model.graph.input[0].type.tensor_type.shape.dim[1].Clear()
        onnx.save(model, path)
    assert f"dynamic side '{side or '?'}'" in refuse(path)
