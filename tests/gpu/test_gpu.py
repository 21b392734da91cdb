"""Runtimes on a GPU. Run alone with: python -m pytest -m gpu"""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gpu_suite
import numpy as np
import pytest
import torch
from tiny import PUMER, batch, recipe

import pumer_convert
from pumer_convert.artifact.tensorrt_flavours import MODULES, import_flavour
from pumer_convert.demo import CHECKPOINT
from pumer_convert.demo.world import samples
from pumer_convert.errors import InputError, MissingDependencyError
from pumer_convert.export.folder import export_folder
from pumer_convert.export.tensorrt import EngineSettings
from pumer_convert.recipe.schema import Profile
from pumer_convert.runtime import Pipeline, open_runtime

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no NVIDIA GPU here"),
]
PROFILES = (Profile(batch=(1, 1, 2), text=(4, 16, 40)), Profile(batch=(2, 8, 8), text=(4, 32, 40)))
SHAPES = [(1, 4), (2, 11), (8, 40)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("gpu")
    pumer_convert.apply(CHECKPOINT, recipe(here / "recipe.yaml", PUMER), here / "ckpt")
    return here / "ckpt"


@pytest.fixture(scope="module", params=list(MODULES))
def engine(request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reduced model's engine of each flavour that is installed."""
    try:
        import_flavour(request.param)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    out = tmp_path_factory.mktemp(request.param)
    export_folder(checkpoint, out, trt=EngineSettings(request.param, PROFILES), dtype="float16")
    return out / "model.engine"


def cuda(rows: int, text: int, seed: int = 0) -> dict[str, torch.Tensor]:
    return {name: value.cuda() for name, value in batch(rows, text, seed).items()}


def near(found: torch.Tensor, checkpoint: Path, inputs: dict[str, torch.Tensor]) -> None:
    """Like the same arithmetic in eager; ties that fall otherwise move a logit or two further."""
    expected = open_runtime(checkpoint, device="cuda", dtype="float16")(**inputs)
    error = (found - expected).abs() / expected.abs().max()
    assert error.median() < 0.03
    assert error.max() < 0.3


@pytest.mark.parametrize("shape", SHAPES)
def test_an_engine_gives_eager_s_logits(engine: Path, checkpoint: Path, shape: tuple[int, int]) -> None:
    inputs, runtime = cuda(*shape), open_runtime(engine)
    found = runtime(**inputs)
    assert found.is_cuda
    near(found, checkpoint, inputs)
    from_numpy = runtime(**{name: value.cpu().numpy() for name, value in inputs.items()})
    np.testing.assert_allclose(from_numpy, found.cpu().numpy(), rtol=1e-2, atol=1e-2)


def test_a_cuda_graph_replays_with_new_inputs(engine: Path) -> None:
    plain, graph = open_runtime(engine), open_runtime(engine, cuda_graph=True)
    for seed, shape in enumerate([SHAPES[0], SHAPES[1], SHAPES[0], SHAPES[2], SHAPES[1]]):
        inputs = cuda(*shape, seed)
        torch.testing.assert_close(graph(**inputs), plain(**inputs), rtol=1e-2, atol=1e-2)


def test_threads_and_profiles_do_not_mix(engine: Path) -> None:
    runtime = open_runtime(engine)
    inputs = [cuda(*SHAPES[i % 3], seed=i) for i in range(24)]
    alone = [runtime(**given) for given in inputs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda given: runtime(**given), inputs))
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-2, atol=1e-2)


def test_a_shape_outside_is_refused_and_the_engine_lives(engine: Path) -> None:
    runtime = open_runtime(engine)
    with pytest.raises(InputError, match="batch 9 with text 8 is outside of it"):
        runtime(**cuda(9, 8))
    assert bool(runtime(**cuda(*SHAPES[0])).isfinite().all())


def test_the_pipeline_answers_on_an_engine(engine: Path, checkpoint: Path) -> None:
    asked = [(sample.image.open(), sample.text) for sample in samples("vqa", "test", 8)]
    found, expected = Pipeline(engine).batch(asked), Pipeline(checkpoint).batch(asked)
    assert sum(a.text == b.text for a, b in zip(found, expected, strict=True)) >= 7


@pytest.mark.parametrize("how", [{"dtype": "float16"}, {"dtype": "bfloat16"}, {"compiled": True}])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # torch about itself
def test_eager_on_the_gpu(checkpoint: Path, how: dict[str, Any]) -> None:
    inputs = cuda(2, 11)
    found = open_runtime(checkpoint, device="cuda", **how)(**inputs)
    expected = open_runtime(checkpoint, device="cuda")(**inputs)
    error = (found - expected).abs() / expected.abs().max()
    assert error.median() < (0.2 if how.get("dtype") == "bfloat16" else 0.03)


def test_an_onnx_file_on_cuda(checkpoint: Path, tmp_path: Path) -> None:
    export_folder(checkpoint, tmp_path, dtype="float16")
    try:
        runtime = open_runtime(tmp_path / "model.onnx", device="cuda")
    except MissingDependencyError as error:
        pytest.skip(str(error))
    inputs = cuda(2, 11)
    near(runtime(**inputs), checkpoint, inputs)


def test_the_suite_runs(tmp_path: Path) -> None:
    words = ["--tiny", "--models", "vilt", "--runtimes", "eager", "onnx", "engine", "--batches", "1", "4"]
    code = gpu_suite.main([str(tmp_path / "gpu.json"), *words, "--texts", "9", "--repeats", "3"])
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert code == 0, report["failed"]
    assert report["machine"]["gpu"]
