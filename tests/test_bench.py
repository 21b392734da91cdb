"""Bench: what is compared with what, what is refused; how fast it goes decides nothing here."""

import json
from pathlib import Path

import lessons
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from pumer_convert.bench import Times, bench
from pumer_convert.cli import cli
from pumer_convert.errors import InputError
from pumer_convert.export.onnx import export_onnx
from pumer_convert.peak import resident
from pumer_convert.plan import make_plan
from pumer_convert.share import MARK, mark


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Dense and reduced, both exported in float32."""
    dense = lessons.dense(tmp_path_factory.mktemp("bench") / "dense")
    reduced = lessons.reduced(dense)
    for folder in (dense, reduced):
        export_onnx(folder)
    return dense, reduced


def test_every_shape_of_every_runtime(pair: tuple[Path, Path]) -> None:
    found = bench(pair[1], runtimes=("eager", "onnx"), batches=(1, 3), texts=(6, 9), repeats=3, device="cpu")
    assert [(c.runtime, c.batch, c.text) for c in found.cells] == [
        (runtime, batch, text) for runtime in ("eager", "onnx") for batch in (1, 3) for text in (6, 9)
    ]
    for cell in found.cells:
        assert 0 < cell.low <= cell.ratio <= cell.high
        assert cell.dense.p50 <= cell.dense.p95 <= cell.dense.p99
        assert cell.macs > 1.1
        assert cell.realised == pytest.approx(cell.ratio / cell.macs)
    assert found.dense == str(pair[0])


def test_macs_are_the_plan_s(pair: tuple[Path, Path]) -> None:
    from pumer_convert.checkpoint.read import open_checkpoint
    from pumer_convert.convert import outline_of

    checkpoint = open_checkpoint(pair[1])
    plan = make_plan(outline_of(checkpoint), tuple(checkpoint.config["pumer"]["edits"]), 8)
    (cell,) = bench(pair[1], batches=(1,), texts=(8,), repeats=3, device="cpu").cells
    assert cell.macs == pytest.approx(plan.ratio)
    (same,) = bench(pair[0], pair[0], batches=(1,), texts=(8,), repeats=3, device="cpu").cells
    assert same.macs == 1


def test_times_by_hand() -> None:
    times = Times.of(np.array([0.2, 0.1, 0.3]), 4)
    assert times.p50 == pytest.approx(0.2)
    assert times.rate == pytest.approx(20)
    assert times.p99 == pytest.approx(0.298)


def test_unlike_is_not_compared(pair: tuple[Path, Path], tmp_path: Path) -> None:
    other = lessons.dense(tmp_path / "meter", "meter")
    with pytest.raises(InputError, match="its model is meter, not vilt"):
        bench(pair[1], other)
    with pytest.raises(InputError, match="exported in float32, not float16; export it anew or say --dtype float32"):
        bench(pair[1], runtimes=("onnx",), dtype="float16", device="cpu")
    with pytest.raises(InputError, match=r"model\.engine: missing; run `pumer-convert export --trt"):
        bench(pair[1], runtimes=("engine",))
    with pytest.raises(InputError, match="not known or gone"):
        bench(pair[0])
    with pytest.raises(InputError, match="no runtime 'onx'"):
        bench(pair[1], runtimes=("onx",))
    with pytest.raises(InputError, match="2 pairs of passes say nothing"):
        bench(pair[1], repeats=2)


def test_the_verb(pair: tuple[Path, Path], tmp_path: Path) -> None:
    words = ["bench", str(pair[1]), "--batch", "2", "--text", "7", "--repeats", "3", "--device", "cpu"]
    shown = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert shown.exit_code == 0
    head, line = shown.stdout.splitlines()
    assert head.split()[:3] == ["runtime", "batch", "text"]
    assert line.split()[:3] == ["eager", "2", "7"]
    told = json.loads(CliRunner().invoke(cli, [*words, "--json"], catch_exceptions=False).stdout)
    assert told["cells"][0]["text"] == 7
    picture = tmp_path / "bench.png"
    words += ["--runtime", "onnx", "--plot"]
    shown = CliRunner().invoke(cli, [*words, str(picture), "--memory"], catch_exceptions=False)
    head, line = shown.stdout.splitlines()
    assert head.split()[-2:] == ["reducers", "memory"]
    assert float(line.split()[-1].removeprefix("/")) > 0
    with Image.open(picture) as drawn:
        assert drawn.width > 400
    nowhere = CliRunner().invoke(cli, [*words, str(tmp_path / "no" / "bench.png")])
    assert isinstance(nowhere.exception, InputError)
    assert "no such folder to draw to" in str(nowhere.exception)


# Shares and memory


def test_what_works_for_the_reducers_alone_is_theirs() -> None:
    """A function of states, keys and a score: what makes keys or score alone is its own, what makes states is not."""
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 20, "pumer" : 1]>
        g (float[2, 4] x) => (float[2, 4] y)
        {
            states = Exp (x)
            seen = Neg (x)
            keys = Abs (seen)
            both = Sqrt (x)
            score = Sigmoid (both)
            out = pumer.Merge (states, keys, score)
            rest = Sin (both)
            y = Add (out, rest)
        }
        <domain: "pumer", opset_import: ["" : 20]>
        Merge (states, keys, score) => (out) { scaled = Mul (keys, score) out = Add (states, scaled) }
    """)
    assert mark(model) == 5
    marked = [node.op_type for node in model.graph.node if node.name.startswith(MARK)]
    assert marked == ["Neg", "Abs", "Sigmoid", "Mul", "Add"]


def test_the_share_of_the_reducers(pair: tuple[Path, Path]) -> None:
    for reduced, least, most in ((pair[1], 0.01, 0.99), (pair[0], 0, 0)):
        (cell,) = bench(reduced, pair[0], runtimes=("onnx",), batches=(4,), texts=(8,), repeats=3, device="cpu").cells
        assert cell.reducers is not None
        assert least <= cell.reducers <= most
        assert cell.memory is None


def test_memory_is_what_a_pass_takes() -> None:
    held: list[NDArray[np.uint8]] = []
    assert 40e6 < resident(lambda: held.append(np.ones(48_000_000, np.uint8))) < 90e6
    assert resident(lambda: None) < 5e6  # what is held already does not count
