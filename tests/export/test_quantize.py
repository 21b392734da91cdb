"""8-bit models: what is handed to the quantizer, what comes of it, and what is refused.

modelopt needs an environment of its own, so ONNX Runtime's quantizer stands in its place here, called as modelopt is.
"""

import json
import sys
from pathlib import Path

import lessons
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnxruntime.quantization import quantize_dynamic

from pumer_convert.artifact.sidecar import read_sidecar
from pumer_convert.cli import cli
from pumer_convert.data.examples import read_examples
from pumer_convert.errors import InputError, MissingDependencyError
from pumer_convert.export.onnx import export_onnx
from pumer_convert.export.quantize import flatten, quantize
from pumer_convert.runtime import open_runtime

STAND_IN = """
import argparse, sys
import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

parser = argparse.ArgumentParser()
for name in ("onnx_path", "output_path", "quantize_mode", "calibration_data_path", "calibration_eps"):
    parser.add_argument("--" + name, required=True)
for name in ("op_types_to_quantize", "nodes_to_quantize"):
    parser.add_argument("--" + name, nargs="+", required=True)
parser.add_argument("--high_precision_dtype", choices=["fp32"])
parser.add_argument("--disable_mha_qdq", action="store_true")
parser.add_argument("--dq_only", action="store_true")
parser.add_argument("--use_external_data_format", action="store_true")
args = parser.parse_args()
if args.quantize_mode != "int8":
    sys.exit("RuntimeError: no such thing.")


class Reader(CalibrationDataReader):
    def __init__(self):
        values = np.load(args.calibration_data_path)
        self.rows = iter([{k: values[k][i : i + 1] for k in values} for i in range(len(values["input_ids"]))])

    def get_next(self):
        return next(self.rows, None)


quantize_static(
    args.onnx_path, args.output_path, Reader(), QuantFormat.QDQ, op_types_to_quantize=args.op_types_to_quantize,
    nodes_to_quantize=[name.removesuffix("$") for name in args.nodes_to_quantize],
    use_external_data_format=args.use_external_data_format,
)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reduced checkpoint, exported in float32."""
    made = lessons.reduced(lessons.dense(tmp_path_factory.mktemp("quantize") / "dense"))
    export_onnx(made)
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("data")
    return lessons.jsonl(here / "data.jsonl", lessons.samples(here, count=8))


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has a module modelopt.onnx.quantization."""
    here = tmp_path_factory.mktemp("modelopt")
    package = here / "modelopt" / "onnx" / "quantization"
    package.mkdir(parents=True)
    (here / "modelopt" / "__init__.py").write_text("__version__ = '0.0'\n")
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(STAND_IN)
    program = here / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{here}" exec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    return program


def test_without_functions_it_is_the_same_model(folder: Path, data: Path, tmp_path: Path) -> None:
    names, external = flatten(folder / "model.onnx", tmp_path / "flat.onnx")
    model = onnx.load(tmp_path / "flat.onnx")
    assert not model.functions
    assert not external
    products = {node.name: node for node in model.graph.node if node.op_type in ("MatMul", "Gemm")}
    # Four linear layers and two of the feed-forward in a block; attention and the reducers have products too.
    assert sum("MatMul" in name for name in names) >= 6 * lessons.DEPTH["vilt"]
    assert set(names) < set(products)
    given = read_examples(read_sidecar(folder / "model.onnx"), folder, data, 4)
    (tmp_path / "flat.onnx.json").write_bytes((folder / "model.onnx.json").read_bytes())
    there, here = (open_runtime(file, device="cpu") for file in (folder / "model.onnx", tmp_path / "flat.onnx"))
    np.testing.assert_allclose(here(**given), there(**given), atol=1e-6)


def test_the_verb(folder: Path, data: Path, python: Path) -> None:
    words = ["quantize", str(folder), "--data", str(data), "--examples", "8", "--modelopt", str(python), "--json"]
    shown = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    report = json.loads(shown.stdout)
    model = onnx.load(folder / "model.int8.onnx")
    assert (
        sum(node.op_type == "DequantizeLinear" for node in model.graph.node)
        > report["products"]
        >= 6 * lessons.DEPTH["vilt"]
    )
    told = json.loads((folder / "model.int8.onnx.json").read_text())
    assert told["onnx"] == {"file": "model.int8.onnx"}
    assert told["quantized"]["calibrated_on"] == told["quantized"]["compared_on"] == 4
    assert 0 <= told["quantized"]["same_answers"] == report["same_answers"] <= 1
    given = read_examples(read_sidecar(folder / "model.onnx"), folder, data, 4)
    logits, exact = (open_runtime(folder / name, device="cpu")(**given) for name in ("model.int8.onnx", "model.onnx"))
    error = float(np.abs(logits - exact).max() / np.abs(exact).max())
    assert 1e-6 < error < 0.5
    again = CliRunner().invoke(cli, words)
    assert isinstance(again.exception, InputError)
    assert "exists already" in str(again.exception)
    assert CliRunner().invoke(cli, [*words, "--overwrite"], catch_exceptions=False).exit_code == 0


def test_for_cpus_by_onnx_runtime_itself(folder: Path, data: Path, python: Path) -> None:
    words = ["quantize", str(folder), "--data", str(data), "--examples", "8", "--mode", "int8-cpu", "--json"]
    shown = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    report = json.loads(shown.stdout)
    nodes = onnx.load(folder / "model.int8-cpu.onnx").graph.node
    linear = sum(node.op_type == "MatMulInteger" for node in nodes)
    assert linear == report["products"] == len(flatten(folder / "model.onnx", folder / "flat.onnx")[0])
    (folder / "flat.onnx").unlink()
    assert (report["calibrated_on"], report["compared_on"]) == (0, 8)
    assert report["by"].startswith("onnxruntime 1.")
    given = read_examples(read_sidecar(folder / "model.onnx"), folder, data, 4)
    names = ("model.int8-cpu.onnx", "model.onnx")
    logits, exact = (open_runtime(folder / name, device="cpu")(**given) for name in names)
    assert 1e-6 < float(np.abs(logits - exact).max() / np.abs(exact).max()) < 0.5
    for more in (["--trt"], ["--modelopt", str(python)]):
        refused = CliRunner().invoke(cli, [*words, "--overwrite", *more])
        assert "is for ONNX Runtime on CPUs" in str(refused.exception)


def test_onnx_runtimes_own_quantizer_takes_an_export(folder: Path, tmp_path: Path) -> None:
    """As people call it, on the file as it is."""
    quantize_dynamic(folder / "model.onnx", tmp_path / "model.onnx")
    assert any(node.op_type == "MatMulInteger" for node in onnx.load(tmp_path / "model.onnx").graph.node)


def test_weights_that_lie_apart_do_so_again(folder: Path, data: Path, python: Path, tmp_path: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    onnx.save(model, tmp_path / "big.onnx", save_as_external_data=True, location="big.onnx.data", size_threshold=1024)
    (tmp_path / "big.onnx.json").write_bytes((folder / "model.onnx.json").read_bytes())
    given = read_examples(read_sidecar(folder / "model.onnx"), folder, data, 4)
    report = quantize(tmp_path / "big.onnx", given, modelopt=python)
    assert report["onnx"] == str(tmp_path / "big.int8.onnx")
    names = ["big.int8.onnx", "big.int8.onnx.data", "big.int8.onnx.json", "big.onnx", "big.onnx.data", "big.onnx.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    (tmp_path / "elsewhere").mkdir()
    for name in names[:3]:
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    assert np.isfinite(open_runtime(tmp_path / "elsewhere" / names[0], device="cpu")(**given)).all()


def test_what_cannot_be_quantized_is_told(folder: Path, data: Path, python: Path, tmp_path: Path) -> None:
    source = folder / "model.onnx"
    inputs = read_examples(read_sidecar(source), folder, data, 2)
    before = sorted(path.name for path in folder.iterdir())
    named = CliRunner().invoke(cli, ["quantize", str(source), "--data", str(data)])
    assert "name the folder in which `export` wrote model.onnx" in str(named.exception)
    with pytest.raises(MissingDependencyError, match=r"python -m venv modelopt && .*nvidia-modelopt\[onnx\]"):
        quantize(source, inputs, tmp_path / "x.onnx")
    with pytest.raises(MissingDependencyError, match="No such file or directory"):
        quantize(source, inputs, tmp_path / "x.onnx", modelopt=tmp_path / "python")
    with pytest.raises(InputError, match="modelopt could not quantize it: RuntimeError: no such thing"):
        quantize(source, inputs, tmp_path / "x.onnx", mode="fp8", modelopt=python)
    with pytest.raises(InputError, match=r"no 8-bit type 'int9'; allowed: int8, fp8, int8-cpu\. Did you mean 'int8'"):
        quantize(source, inputs, mode="int9")
    with pytest.raises(InputError, match="take 2 examples or more"):
        quantize(source, {name: value[:1] for name, value in inputs.items()})
    with pytest.raises(InputError, match="no such ONNX file"):
        quantize(tmp_path / "model.onnx", inputs)
    with pytest.raises(InputError, match="holds 8 samples, fewer than the 9"):
        read_examples(read_sidecar(source), folder, data, 9)
    for change, says in (({"dtype": "bfloat16"}, "is in bfloat16"), ({"quantized": {}}, "is in 8 bits already")):
        (tmp_path / "model.onnx").write_bytes(source.read_bytes())
        sidecar = json.loads((folder / "model.onnx.json").read_text()) | change
        (tmp_path / "model.onnx.json").write_text(json.dumps(sidecar))
        with pytest.raises(InputError, match=says):
            quantize(tmp_path / "model.onnx", inputs)
    assert sorted(path.name for path in folder.iterdir()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.json"]
