"""Every verb as a function: paths as text or `Path`, and a report of plain values."""

import inspect
import json
from pathlib import Path

import lessons
import numpy as np
import pytest
import tiny
from PIL import Image

import pumer_convert
from pumer_convert.cli import VERBS
from pumer_convert.demo import CHECKPOINT

FUNCTIONS = {
    "inspect": "inspect",
    "apply": "apply",
    "distill": "distill",
    "evaluate": "evaluate",
    "export": "export_folder",
    "quantize": "quantize_folder",
    "verify": "verify_export",
    "bench": "bench",
    "run": "Pipeline",
    "show": "show",
}
OTHERS = ("recipes", "demo")
QUESTION = "what color is the circle ?"


def test_every_verb_is_a_function() -> None:
    assert {*FUNCTIONS, *OTHERS} == set(VERBS)
    for name in FUNCTIONS.values():
        function = getattr(pumer_convert, name)
        signature = inspect.signature(function)
        assert function.__doc__
        assert all(p.annotation is not p.empty for p in signature.parameters.values()), name


@pytest.mark.parametrize("name", [name for name in pumer_convert.__all__ if name.islower() and name[0] != "_"])
def test_what_takes_a_path_takes_text(name: str) -> None:
    for parameter in inspect.signature(getattr(pumer_convert, name)).parameters.values():
        kinds = str(parameter.annotation)
        if "Path" in kinds and "Iterable" not in kinds:
            assert "str" in kinds, f"{name}: {parameter}"


def test_inspect_apply_and_run_by_text(tmp_path: Path) -> None:
    recipe = tiny.recipe(tmp_path / "r.yaml", tiny.PUMER)
    dense = pumer_convert.inspect(str(CHECKPOINT), text_length=8)
    assert (dense.model, dense.task, dense.reduced_at, dense.plan.text_length) == ("vilt", "vqa", (), 8)
    report = pumer_convert.apply(str(CHECKPOINT), str(recipe), str(tmp_path / "out"), tokenizer=str(CHECKPOINT))
    json.dumps(report)
    found = pumer_convert.inspect(tmp_path / "out")
    assert found.reduced_at == ("encoder.1", "encoder.2", "encoder.4")
    assert json.loads(json.dumps(found.to_json()))["plan"] == report["plan"]
    picture = tmp_path / "a.png"
    Image.new("RGB", (96, 96), "red").save(picture)
    answer = pumer_convert.Pipeline(str(tmp_path / "out"), device="cpu")(str(picture), QUESTION)
    shown = pumer_convert.show(str(tmp_path / "out"), str(picture), QUESTION, str(tmp_path / "left.png"))
    json.dumps(shown)
    assert (shown["answer"], (tmp_path / "left.png").is_file()) == (answer.text, True)


def test_a_training_in_one_go_and_its_measurement(tmp_path: Path) -> None:
    recipe = tiny.recipe(tmp_path / "r.yaml", tiny.PUMER)
    recipe.write_text(recipe.read_text() + "distill: {epochs: 1, batch_size: 4}\n")
    made = lessons.samples(tmp_path / "pictures")
    plan = pumer_convert.prepare_apply(str(CHECKPOINT), str(recipe), str(tmp_path / "out"))
    report = pumer_convert.apply_and_distill(plan, made, device="cpu")
    json.dumps(report)
    assert (report["distill"]["steps"], report["out"]) == (2, str(tmp_path / "out"))
    assert not (tmp_path / ".out.student").exists()
    flips = str(tmp_path / "flips.jsonl")
    data = str(lessons.jsonl(tmp_path / "data.jsonl", made))
    evaluation = pumer_convert.evaluate(report["out"], data, against=str(CHECKPOINT), flips=flips, device="cpu")
    json.dumps(evaluation.to_json())
    assert evaluation.comparison is not None
    assert len(Path(flips).read_text().splitlines()) == len(evaluation.comparison.flips)


def test_export_verify_and_quantize_by_text(tmp_path: Path) -> None:
    pumer_convert.apply(CHECKPOINT, tiny.recipe(tmp_path / "r.yaml", tiny.PUMER), tmp_path / "red")
    out = tmp_path / "served"
    report = pumer_convert.export_folder(str(tmp_path / "red"), str(out), triton="auto", dtype="float32")
    json.dumps(report)
    assert report["triton"]["backend"] == "onnxruntime"
    assert (out / "triton" / "pumer" / "config.pbtxt").is_file()
    with pytest.raises(pumer_convert.InputError, match="tensorrt runs an engine; say --trt as well"):
        pumer_convert.export_folder(tmp_path / "red", tmp_path / "other", triton="tensorrt")
    with pytest.raises(pumer_convert.InputError, match=r"no Triton backend 'pyton'\. Did you mean 'python'"):
        pumer_convert.export_folder(tmp_path / "red", tmp_path / "other", triton="pyton")
    assert not (tmp_path / "other").exists()
    case = pumer_convert.Case(batch=1, text=5)
    verified = pumer_convert.verify_export(str(tmp_path / "red"), str(out / "model.onnx"), [case])
    assert verified["verification"]["cases"] == 1
    data = lessons.jsonl(tmp_path / "data.jsonl", lessons.samples(tmp_path / "pictures"))
    quantized = pumer_convert.quantize_folder(str(out), str(data), mode="int8-cpu", examples=4)
    json.dumps(quantized)
    assert (quantized["compared_on"], (out / "model.int8-cpu.onnx").is_file()) == (4, True)
    with pytest.raises(pumer_convert.InputError, match="an engine takes int8 or fp8"):
        pumer_convert.quantize_folder(out, data, mode="int8-cpu", trt=pumer_convert.EngineSettings())


def test_bench_by_text(tmp_path: Path) -> None:
    pumer_convert.apply(CHECKPOINT, tiny.recipe(tmp_path / "r.yaml", tiny.PUMER), tmp_path / "red")
    found = pumer_convert.bench(
        str(tmp_path / "red"), str(CHECKPOINT), batches=(1,), texts=(8,), repeats=3, device="cpu"
    )
    json.dumps(found.to_json())
    assert np.isfinite(found.cells[0].ratio)
