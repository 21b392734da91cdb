"""An engine is built in a process of its own; one that crashes is told in a sentence."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from pumer_convert.errors import InputError
from pumer_convert.export import folder as module
from pumer_convert.export.tensorrt import EngineSettings


def crash(onnx_file: Path, out: Path, settings: EngineSettings, **how: Any) -> dict[str, Any]:
    """A builder that ends as TensorRT's has been seen to."""
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def build(onnx_file: Path, out: Path, settings: EngineSettings, **how: Any) -> dict[str, Any]:
    """One that ends well."""
    return {"engine": {"bytes": os.getpid()}, "flavour": "tensorrt-rtx", "tensorrt_version": "1"}


def beside(monkeypatch: pytest.MonkeyPatch, folder: Path, builder: Any) -> dict[str, Any]:
    monkeypatch.setattr("pumer_convert.export.tensorrt.build_engine", builder)
    onnx_file = folder / "model.onnx"
    return module.engine_beside(onnx_file, EngineSettings(), {}, overwrite=False, progress=None, alone=True)


def test_a_builder_that_crashes_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.onnx: the builder of its engine ended without a word"):
        beside(monkeypatch, tmp_path, crash)


def test_the_builder_is_another_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert beside(monkeypatch, tmp_path, build)["bytes"] != os.getpid()
