"""TensorRT and TensorRT-RTX: which one is taken, what only one of them has, and that both go through one builder."""

import ast
import json
import sys
from pathlib import Path

import pytest
import torch
from test_tensorrt import write

import pumer_convert
from pumer_convert.artifact import tensorrt_flavours as flavour
from pumer_convert.artifact.tensorrt_flavours import ONLY, choose_flavour
from pumer_convert.errors import InputError, MissingDependencyError
from pumer_convert.export.tensorrt import EngineSettings, build_engine

pytest.importorskip("tensorrt_rtx")

PACKAGE = Path(pumer_convert.__file__).parent
NAMES = json.loads((Path(__file__).parents[1] / "support/tensorrt_names.json").read_text())
"""Names in TensorRT-RTX 1.7 that are also in TensorRT's bindings (the strings of their wheels), and of these the ones
that a version lacks."""
OBJECTS = {
    *("trt", "builder", "config", "network", "parser", "error", "shapes", "measured", "writer"),
    *("self.runtime", "self.engine", "self.context", "refitter", "parser", "inspector"),
}
"""The variables in which the code below keeps objects of TensorRT's."""
OURS = {"stopped", "why"}


@pytest.fixture
def classic(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """TensorRT-RTX in the place of TensorRT, and a GPU, as far as anyone can see."""
    monkeypatch.setitem(sys.modules, "tensorrt", sys.modules["tensorrt_rtx"])
    monkeypatch.setattr(flavour, "GPU", (tmp_path,))


def test_auto_takes_tensorrt_only_where_it_and_a_gpu_are(classic: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_flavour("auto", {})[0] == "tensorrt"
    assert choose_flavour("auto", {"compute_capabilities": ("8.9",)})[0] == "tensorrt-rtx"
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert choose_flavour("auto", {})[0] == "tensorrt-rtx"
    monkeypatch.setattr(flavour, "GPU", ())
    assert choose_flavour("auto", {})[0] == "tensorrt-rtx"
    with pytest.raises(InputError, match=r"no engine flavour 'tensort'\. Did you mean 'tensorrt'"):
        choose_flavour("tensort", {})


def test_what_needs_a_gpu_is_refused_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", sys.modules["tensorrt_rtx"])
    monkeypatch.setattr(flavour, "GPU", ())
    with pytest.raises(MissingDependencyError, match="TensorRT builds on the GPU it is for"):
        choose_flavour("tensorrt", {})
    with pytest.raises(MissingDependencyError, match="without weights can only be built where a GPU is"):
        choose_flavour("tensorrt-rtx", {"strip_weights": True})


@pytest.mark.parametrize("name", ONLY)
def test_a_setting_of_the_other_flavour_is_refused(classic: None, name: str) -> None:
    home, why = ONLY[name]
    other = next(kind for kind in flavour.MODULES if kind != home)
    with pytest.raises(InputError, match=f"only {home} has that; ") as caught:
        choose_flavour(other, {name: True})
    assert why in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops in TensorRT-RTX:DeprecationWarning")
def test_tensorrts_path_through_the_builder(classic: None, tmp_path: Path) -> None:
    path = write(tmp_path)
    settings = EngineSettings("tensorrt", hardware_compatible=True, layer_information=True, optimization_level=1)
    record = build_engine(path, settings=settings)
    assert record["flavour"] == "tensorrt"
    assert record["hardware_compatible"] is True
    assert record["compute_capabilities"] == [] or torch.cuda.is_available()
    assert (tmp_path / "model.engine.timing").exists()
    build_engine(path, settings=settings, overwrite=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        *("model.engine", "model.engine.json", "model.engine.timing", "model.onnx"),
    ]


def attributes(file: Path) -> set[str]:
    """The names that a file asks TensorRT's objects, and the classes in its module, for."""
    nodes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)]
    owners = [(node.attr, ast.unparse(node.value)) for node in nodes]
    return {name for name, owner in owners if owner in OBJECTS or owner.startswith("trt.")} - OURS


@pytest.mark.parametrize("file", ["export/tensorrt.py", "runtime/engine.py"])
@pytest.mark.parametrize("version", NAMES["missing"])
def test_every_name_we_use_is_in_tensorrt(version: str, file: str) -> None:
    used = attributes(PACKAGE / file)
    assert len(used) >= 8
    of_rtx = {
        "ComputeCapability",
        "num_compute_capabilities",
        "set_compute_capability",
        "__members__",
        "items",
        "__version__",
    }
    assert used - of_rtx <= set(NAMES["found"]) - set(NAMES["missing"][version])
