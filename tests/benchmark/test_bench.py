"""Bench: what is compared with what, what is refused; how fast it goes decides nothing here."""

import json
from pathlib import Path

import lessons
import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image
from tiny import published_vilt

import pumer_convert
from pumer_convert.benchmark.bench import Times, bench
from pumer_convert.benchmark.memory import resident
from pumer_convert.benchmark.reducer_cost import strip_reducers
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.cli import cli
from pumer_convert.convert.plan import make_plan
from pumer_convert.errors import InputError
from pumer_convert.export.onnx import export_onnx
from pumer_convert.image_processor.picture_input import picture_input
from pumer_convert.runtime.base import packed
from pumer_convert.verification.verify import Case


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
    from pumer_convert.convert.load import spec_of

    checkpoint = open_checkpoint(pair[1])
    plan = make_plan(spec_of(checkpoint), tuple(checkpoint.config["pumer"]["edits"]), 8)
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


def test_the_dense_model_has_fused_attention_too(tmp_path: Path) -> None:
    dense = published_vilt(tmp_path / "published", reduced=False)
    reduced = lessons.reduced(dense)
    shape = {"batches": (1,), "texts": (6,), "repeats": 3, "device": "cpu"}
    with pytest.raises(InputError, match="published code's own attention"):
        bench(reduced, **shape)
    nothing = tmp_path / "nothing.yaml"
    nothing.write_text("recipe: 1\nmodel: vilt\nreduce: []\n")
    pumer_convert.apply(dense, nothing, tmp_path / "fused")
    (cell,) = bench(reduced, tmp_path / "fused", **shape).cells
    assert cell.macs > 1.1


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
    assert head.split()[-3:] == ["reducers", "less", "memory"]
    assert float(line.split()[-1].removesuffix("x")) > 0
    with Image.open(picture) as drawn:
        assert drawn.width > 400
    nowhere = CliRunner().invoke(cli, [*words, str(tmp_path / "no" / "bench.png")])
    assert isinstance(nowhere.exception, InputError)
    assert "no such folder to draw to" in str(nowhere.exception)
    assert "a folder; name the picture" in str(CliRunner().invoke(cli, [*words, str(tmp_path)]).exception)


# Shares and memory


def test_reducers_that_cost_nothing_keep_as_many(tmp_path: Path) -> None:
    """The lengths of every reducer's tokens are those of the real model; and what only they looked at is not run."""
    merging = "{at: encoder.0, merge: {image: 0.15, by: pitome}}"
    both = "{at: 'encoder.2-3', prune: {image: 0.3}, merge: {image: {drop: 3}, text: 0.2}}"
    (tmp_path / "r.yaml").write_text(f"recipe: 1\nmodel: vilt\nreduce:\n  - {merging}\n  - {both}\n")
    reduced = tmp_path / "reduced"
    pumer_convert.apply(lessons.dense(tmp_path / "dense"), tmp_path / "r.yaml", reduced)
    export_onnx(reduced, cases=(Case(batch=2, text=9),))
    free = strip_reducers(reduced / "model.onnx")
    assert free is not None
    pixels = np.random.default_rng(0).standard_normal((2, 3, 64, 64), np.float32)
    given = {"input_ids": np.full((2, 9), 7), "attention_mask": np.ones((2, 9), np.int64)}
    given |= packed(pixels, picture_input(open_checkpoint(reduced)))
    lengths = []
    for graph in (onnx.load(str(reduced / "model.onnx")), onnx.load_from_string(free)):
        calls = [node for node in graph.graph.node if node.domain == "pumer"]
        assert {node.op_type for node in calls} == {"Prune", "Merge", "MergeByEnergy"}
        names = [node.output[0] for node in calls]
        graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        lengths.append([value.shape for value in session.run(names, given)])
    assert lengths[0] == lengths[1]
    assert len(lengths[0]) == 1 + 2 * 3


def test_the_share_of_the_reducers(pair: tuple[Path, Path]) -> None:
    measured = {"runtimes": ("onnx",), "batches": (4,), "texts": (8,), "repeats": 3, "device": "cpu"}
    (cell,), (same,) = (bench(reduced, pair[0], **measured).cells for reduced in (pair[1], pair[0]))
    assert cell.reducers is not None
    assert cell.reducers < 1
    assert same.reducers is None
    assert cell.memory is None


def test_memory_is_what_a_pass_takes() -> None:
    held: list[NDArray[np.uint8]] = []
    assert 40e6 < resident(lambda: held.append(np.ones(48_000_000, np.uint8))) < 90e6
    assert resident(lambda: None) < 5e6  # what is held already does not count
