"""Runtimes: folder, ONNX file and pipeline give the same; what is refused, and with which sentence."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import random_checkpoint
import torch
from click.testing import CliRunner
from exported import change
from PIL import Image
from tiny import batch, recipe

import pumer_convert
from pumer_convert.artifact.engine_sidecar import Sidecar
from pumer_convert.cli import cli
from pumer_convert.demo import CHECKPOINT
from pumer_convert.demo.world import samples
from pumer_convert.errors import InputError, MissingDependencyError
from pumer_convert.export.tensorrt import ORIGIN, check_onnx
from pumer_convert.runtime import Pipeline, open_runtime

NLVR2 = CHECKPOINT.parent / "nlvr2"


@pytest.fixture(scope="module")
def reduced(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reduced demo checkpoint, and in a folder of its own what was exported of it, an engine included."""
    pytest.importorskip("tensorrt_rtx")
    here = tmp_path_factory.mktemp("runtime")
    shutil.copytree(demo, here / "ckpt", ignore=shutil.ignore_patterns("model.onnx*", "model.engine*"))
    (here / "served").mkdir()
    for file in demo.iterdir():
        if file.name.startswith(("model.onnx", "model.engine", "token", "preprocessor")):
            shutil.copy(file, here / "served")
    return here


def arrays(rows: int, text: int) -> dict[str, np.ndarray[Any, Any]]:
    return {name: value.numpy() for name, value in batch(rows, text).items()}


@pytest.mark.parametrize(("rows", "text"), [(1, 4), (3, 11), (5, 40)])
def test_folder_and_onnx_give_the_same_from_numpy_and_torch(reduced: Path, rows: int, text: int) -> None:
    eager, onnx = open_runtime(reduced / "ckpt"), open_runtime(reduced / "served" / "model.onnx", device="cpu")
    expected = pumer_convert.load(reduced / "ckpt")(**batch(rows, text)).logits.detach().numpy()
    for runtime in (eager, onnx):
        from_numpy, from_torch = runtime(**arrays(rows, text)), runtime(**batch(rows, text))
        assert isinstance(from_numpy, np.ndarray)
        assert isinstance(from_torch, torch.Tensor)
        np.testing.assert_allclose(from_numpy, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(from_numpy, from_torch.numpy())


@pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning")  # torch about itself
def test_compiled_gives_the_same(tmp_path: Path) -> None:
    dense = random_checkpoint.write(tmp_path / "tiny.ckpt", "vilt", "original", depth=2)
    step = "  - at: encoder.0\n    prune: {image: 0.2}\n    merge: {image: 0.3, text: 0.2}\n"
    pumer_convert.apply(dense, recipe(tmp_path / "recipe.yaml", step), tmp_path / "ckpt")
    eager = open_runtime(tmp_path / "ckpt", device="cpu")
    inputs = batch(2, 9) | {"pixel_values": torch.randn(2, 3, *eager.pictures.nominal)}
    found = open_runtime(tmp_path / "ckpt", device="cpu", compiled=True)(**inputs)
    torch.testing.assert_close(found, eager(**inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["ckpt", "served/model.onnx"])
def test_four_threads_at_once_get_their_own_logits(reduced: Path, name: str) -> None:
    runtime = open_runtime(reduced / name, device="cpu")
    inputs = [arrays(1 + i % 3, 5 + i) for i in range(16)]
    alone = [runtime(**given) for given in inputs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda given: runtime(**given), inputs))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


def test_the_pipeline_answers_alike_from_folder_and_onnx_file(reduced: Path, tmp_path: Path) -> None:
    folder, onnx = Pipeline(reduced / "ckpt"), Pipeline(reduced / "served" / "model.onnx", device="cpu")
    asked = list(samples("vqa", "test", 24))
    file = tmp_path / "scene.png"
    asked[0].image.open().save(file)
    items = [(sample.image.open(), sample.text) for sample in asked]
    first, second = folder.batch(items), onnx.batch(items)
    assert [answer.text for answer in first] == [answer.text for answer in second]
    assert onnx(file, asked[0].text).text == first[0].text
    assert first[0].ranking[0] == (first[0].text, first[0].score)
    assert sum(answer.text == sample.answer for answer, sample in zip(first, asked, strict=True)) > 12
    scores = [score for _, score in first[0].ranking]
    assert scores == sorted(scores, reverse=True)
    assert 0 <= scores[-1] < scores[0] <= 1


def test_the_pipeline_takes_two_pictures_where_the_task_does() -> None:
    pipeline = Pipeline(NLVR2)
    asked = list(samples("nlvr2", "test", 20))
    answers = [pipeline([picture.open() for picture in sample.images], sample.text) for sample in asked]
    right = [answer.text.lower() == sample.answer for answer, sample in zip(answers, asked, strict=True)]
    assert sum(right) >= 16
    assert answers[0].score + answers[0].ranking[1][1] == pytest.approx(1)
    with pytest.raises(InputError, match=r"1 picture\(s\) for a question, but 'nlvr2' takes 2"):
        pipeline(Image.new("RGB", (8, 8)), "what")


def test_wrong_inputs_are_named(reduced: Path) -> None:
    runtime = open_runtime(reduced / "served" / "model.onnx", device="cpu")
    good = arrays(2, 6)

    def refused(says: str, **changed: Any) -> None:
        with pytest.raises(InputError, match=says):
            runtime(**{**good, **changed})

    refused("input_ids is int32; it has to be int64", input_ids=good["input_ids"].astype(np.int32))
    refused("both \\[batch, text\\]", attention_mask=good["attention_mask"][:, :-1])
    refused(
        "pixel_values has to be \\[2, 3, 96, 96\\] here, not \\[2, 2, 96, 96\\]",
        pixel_values=good["pixel_values"][:, :2],
    )
    refused("all of one kind, not Tensor, ndarray", input_ids=torch.from_numpy(good["input_ids"]))
    refused("all of one kind, not list, ndarray", input_ids=good["input_ids"].tolist())


def test_what_cannot_be_opened_is_told(reduced: Path, tmp_path: Path) -> None:
    def refused(says: str, path: Path, kind: type[Exception] = InputError, **options: Any) -> None:
        with pytest.raises(kind, match=says):
            Pipeline(path, **options)

    onnx = reduced / "served" / "model.onnx"
    refused("there is no such ONNX file", tmp_path / "none.onnx")
    refused("there is no such engine", tmp_path / "none.engine")
    refused("cannot run on 'npu'; allowed: auto, cpu", onnx, device="npu")
    refused("has no provider 'tensorrt-rtx'; it offers", onnx, MissingDependencyError, device="tensorrt-rtx")
    refused("settled when it was exported", onnx, dtype="float16")
    refused("CUDA graphs are for engines", reduced / "ckpt", cuda_graph=True)
    alone = shutil.copy(onnx, tmp_path)
    refused("its sidecar model.onnx.json is missing", Path(alone))
    (tmp_path / "model.onnx.json").write_text("{}")
    refused("not a sidecar that pumer-convert wrote", Path(alone))
    shutil.copy(reduced / "served" / "model.onnx.json", tmp_path)
    refused("there is no tokenizer", Path(alone))
    with pytest.raises(InputError, match="the picture cannot be read"):
        Pipeline(onnx, device="cpu")(tmp_path / "model.onnx.json", "what")


def engine(reduced: Path, folder: Path) -> Path:
    for name in ("model.engine", "model.engine.json"):
        shutil.copy(reduced / "served" / name, folder)
    return folder / "model.engine"


def test_an_engine_is_checked_before_a_gpu_is_asked_for(reduced: Path, tmp_path: Path) -> None:
    path = engine(reduced, tmp_path)

    def refused(says: str, kind: type[Exception] = InputError) -> None:
        with pytest.raises(kind, match=says):
            open_runtime(path)

    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    refused("not the engine of its sidecar, or damaged")
    path.write_bytes(data)
    change(path, format=2)
    refused("written by a newer pumer-convert")
    change(path, format=1, flavour="tensorrt-xyz")
    refused("not a sidecar that pumer-convert wrote")
    (tmp_path / "model.engine.json").unlink()
    refused("its sidecar model.engine.json is missing")


@pytest.mark.skipif(torch.cuda.is_available(), reason="tells what is said where there is no GPU")
def test_without_a_gpu_an_engine_is_refused(reduced: Path) -> None:
    with pytest.raises(MissingDependencyError, match="running an engine needs an NVIDIA GPU"):
        open_runtime(reduced / "served" / "model.engine")


def test_version_and_gpu_of_an_engine(reduced: Path) -> None:
    sidecar = Sidecar.of(reduced / "served" / "model.engine")
    sidecar.check_engine()
    sidecar.check_version(sidecar.values["tensorrt_version"])
    with pytest.raises(
        MissingDependencyError, match=r"built by tensorrt-rtx .*, and 1\.0\.0 is here; install that version"
    ):
        sidecar.check_version("1.0.0")
    sidecar.check_capability((8, 9))
    sidecar.check_capability((9, 0))
    with pytest.raises(MissingDependencyError, match=r"and this GPU is 7\.5; build it for this one"):
        sidecar.check_capability((7, 5))
    chosen = replace(sidecar, values={**sidecar.values, "compute_capabilities": ["8.6", "8.9"]})
    chosen.check_capability((8, 6))
    with pytest.raises(MissingDependencyError, match=r"built for compute capability 8\.6, 8\.9, and this GPU is 12\.0"):
        chosen.check_capability((12, 0))
    classic = replace(chosen, values={**chosen.values, "flavour": "tensorrt"})
    with pytest.raises(MissingDependencyError, match=r"this GPU is 8\.0"):
        classic.check_capability((8, 0))
    replace(classic, values={**classic.values, "hardware_compatible": True}).check_capability((8, 0))


def test_the_profile_is_chosen_by_the_shape(reduced: Path) -> None:
    sidecar = Sidecar.of(reduced / "served" / "model.engine")
    shapes = [[[1, 4], [1, 16], [8, 40]], [[4, 4], [32, 32], [64, 40]]]
    patches = {"patches": [[1, 19, 192], [1, 144, 192], [8, 228, 192]]}
    profiles = [{"input_ids": shape, **patches} for shape in shapes]
    sidecar = replace(sidecar, values={**sidecar.values, "profiles": profiles})

    def chosen(batch: int, text: int, patches: int = 144) -> int:
        return sidecar.profile(batch=batch, text=text, patches=patches)

    assert [chosen(*shape) for shape in [(1, 4), (4, 16), (8, 40), (9, 4), (64, 40)]] == [0, 1, 1, 1, 1]
    says = (
        "batch 65 with patches 144 with text 9 is outside of it; it takes batch 1 to 8 with patches 19 to 228 with text"
    )
    with pytest.raises(InputError, match=says):
        chosen(65, 9)
    with pytest.raises(InputError, match="text 41 is outside"):
        chosen(1, 41)
    with pytest.raises(InputError, match="patches 229 with text 9 is outside"):
        chosen(1, 9, 229)


def test_the_command_line_answers(reduced: Path, tmp_path: Path) -> None:
    sample = next(iter(samples("vqa", "test", 1)))
    sample.image.open().save(tmp_path / "scene.png")
    words = ["--image", str(tmp_path / "scene.png"), "--text", sample.text, "--device", "cpu"]
    onnx = str(reduced / "served" / "model.onnx")
    expected = Pipeline(onnx, device="cpu")(tmp_path / "scene.png", sample.text)
    shown = CliRunner().invoke(cli, ["run", onnx, *words, "--top", "2"], catch_exceptions=False)
    assert shown.exit_code == 0
    assert [line.split()[1] for line in shown.stdout.splitlines()] == [label for label, _ in expected.ranking[:2]]
    told = CliRunner().invoke(cli, ["run", onnx, *words, "--json"], catch_exceptions=False)
    assert json.loads(told.stdout)["text"] == expected.text


def test_an_onnx_file_is_served_without_torch_and_the_checkpoint(reduced: Path, tmp_path: Path) -> None:
    next(iter(samples("vqa", "test", 1))).image.open().save(tmp_path / "scene.png")
    code = """
import sys
from pumer_convert.runtime import Pipeline
print(Pipeline(sys.argv[1], device="cpu")(sys.argv[2], "what color is the star ?").text)
assert "pumer_convert.models.vilt.network" not in sys.modules
"""
    words = [sys.executable, "-c", code, str(reduced / "served" / "model.onnx"), str(tmp_path / "scene.png")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_exported_file_tells_parts_of_the_model_and_no_paths(reduced: Path) -> None:
    path = reduced / "served" / "model.onnx"
    model = onnx.load(path)
    told = [{entry.key: entry.value for entry in node.metadata_props} for node in model.graph.node]
    assert {key for entries in told for key in entries} == {ORIGIN}
    assert "vilt.encoder.layer.3.attention.attention.query" in {entries.get(ORIGIN) for entries in told}
    assert str(Path(pumer_convert.__file__).parent).encode() not in path.read_bytes()
    assert check_onnx(path, "tensorrt-rtx")["flavour"] == "tensorrt-rtx"
    shown = CliRunner().invoke(
        cli, ["verify", str(reduced / "ckpt"), "--onnx", str(path), "--trt"], catch_exceptions=False
    )
    assert "tensorrt-rtx takes every node" in shown.stdout or torch.cuda.is_available()
