"""Bench: what is compared with what, what is refused; how fast it goes decides nothing here."""

import json
from pathlib import Path

import lessons
import numpy as np
import pytest
from click.testing import CliRunner

from pumer_convert.bench import Times, bench
from pumer_convert.cli import cli
from pumer_convert.errors import InputError
from pumer_convert.export.onnx import export_onnx
from pumer_convert.plan import make_plan


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


def test_the_verb(pair: tuple[Path, Path]) -> None:
    words = ["bench", str(pair[1]), "--batch", "2", "--text", "7", "--repeats", "3", "--device", "cpu"]
    shown = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert shown.exit_code == 0
    head, line = shown.stdout.splitlines()
    assert head.split()[:3] == ["runtime", "batch", "text"]
    assert line.split()[:3] == ["eager", "2", "7"]
    told = json.loads(CliRunner().invoke(cli, [*words, "--json"], catch_exceptions=False).stdout)
    assert told["cells"][0]["text"] == 7
