"""What tests of several files share, and which tests go to one process of several."""

import importlib.util
from functools import partial
from pathlib import Path
from typing import Any

import pytest

# The process that only hands out the tests reads this file as well, and has no use for torch: fixtures import it.

TOGETHER = {
    **dict.fromkeys(("test_saved", "test_runtime", "test_triton", "test_triton_requests"), "demo"),
    **{name: name for name in ("test_bench", "test_quantize", "test_trt_app", "test_trt_app_engine")},
}
"""Files whose fixtures take long to make: each group is run by one process, every other test by whichever is free."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """xdist's own groups (--dist loadgroup) are not heard by pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return TOGETHER.get(Path(nodeid.split("::")[0]).stem, nodeid)

    return Groups(config, log)


def reduced_demo(folder: Path, semantics: str) -> Path:
    """The demo's checkpoint with reducers in `folder`, exported in float32 beside its weights, with an engine where
    TensorRT-RTX is installed; gives its folder."""
    from tiny import PUMER, recipe

    import pumer_convert
    from pumer_convert.demo import CHECKPOINT
    from pumer_convert.export.folder import export_folder
    from pumer_convert.export.tensorrt import EngineSettings

    pumer_convert.apply(CHECKPOINT, recipe(folder / "recipe.yaml", PUMER, semantics), folder / "ckpt")
    there = importlib.util.find_spec("tensorrt_rtx") is not None
    export_folder(folder / "ckpt", trt=EngineSettings("tensorrt-rtx") if there else None, dtype="float32")
    return folder / "ckpt"


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`reduced_demo` in the default semantics; not to be changed."""
    return reduced_demo(tmp_path_factory.mktemp("demo"), "default")


@pytest.fixture(scope="session")
def published_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`reduced_demo` in the published semantics, where padding changes the answers; not to be changed."""
    return reduced_demo(tmp_path_factory.mktemp("published"), "reference")


@pytest.fixture
def shallow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tools that measure take a ViLT of two layers for a tiny one, and go by recipes that reduce the first."""
    import build_matrix
    import convert_cost
    import gpu_suite
    import random_checkpoint
    import speed
    from tiny import recipe

    (tmp_path / "recipes").mkdir()
    step = "  - at: encoder.0\n    prune: {image: 0.1}\n    merge: {image: 0.3, text: 0.2}\n"
    for name in ("vilt", "vilt-fast", "vilt-ve"):
        recipe(tmp_path / "recipes" / f"{name}.yaml", step)
    for tool in (build_matrix, convert_cost, gpu_suite, speed):
        monkeypatch.setattr(tool, "RECIPES", tmp_path / "recipes")
    for tool in (build_matrix, gpu_suite):
        monkeypatch.setattr(tool, "write", partial(random_checkpoint.write, depth=2))
