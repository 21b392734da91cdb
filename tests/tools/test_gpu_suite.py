"""tools/gpu_suite.py without a GPU: what runs is right, what cannot is told, and nothing wrong passes."""

import argparse
import json
from pathlib import Path
from typing import Any

import gpu_suite
import numpy as np
import pytest
import torch

from pumer_convert.errors import InputError, MissingDependencyError


@pytest.mark.skipif(torch.cuda.is_available(), reason="tells what is skipped where there is no GPU; tests/gpu has more")
@pytest.mark.usefixtures("shallow")
def test_on_a_cpu_it_runs_what_it_can(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorrt_rtx")
    words = ["--tiny", "--models", "vilt", "--runtimes", "eager", "onnx", "engine", "--batches", "1", "3"]
    assert gpu_suite.main([str(tmp_path / "gpu.json"), *words, "--texts", "6", "--repeats", "3"]) == 0
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["machine"]["gpu"] is None
    kinds = [f"vilt {runtime} {kind}" for runtime in ("eager", "onnx") for kind in ("dense", "reduced")]
    assert [check["what"] for check in report["checks"]] == kinds
    assert all(check["error"] <= check["allowed"] == 1e-4 for check in report["checks"])
    assert [(cell["what"], cell["batch"]) for cell in report["speed"]] == [
        (f"vilt {runtime}", batch) for runtime in ("eager", "onnx") for batch in (1, 3)
    ]
    assert [built["what"] for built in report["builds"]] == [f"vilt tensorrt-rtx {k}" for k in ("dense", "reduced")]
    skipped = {entry["what"]: entry["why"] for entry in report["skipped"]}
    graph = skipped["vilt tensorrt-rtx reduced in a CUDA graph"]
    assert graph == "reduced/model.engine: running an engine needs an NVIDIA GPU, and none is here."
    assert "vilt tensorrt dense: build" in skipped
    assert "skipped: vilt tensorrt-rtx: speed: " in capsys.readouterr().out


def suite(monkeypatch: pytest.MonkeyPatch, logits: Any) -> gpu_suite.Suite:
    args = argparse.Namespace(dtype="float32", tiny=True, batches=[1], texts=[6], repeats=3, runtimes=[])
    monkeypatch.setattr(gpu_suite.Suite, "logits", lambda *words, **options: logits())
    return gpu_suite.Suite(args)


@pytest.mark.parametrize("off", [0, 0.2, np.nan, np.inf])
def test_a_wrong_logit_fails(monkeypatch: pytest.MonkeyPatch, off: float) -> None:
    right = [np.array([[1, 2, 4]], np.float32)]
    made = suite(monkeypatch, lambda: [right[0] + np.array([0, off, 0], np.float32)])
    made.check("it", Path("x"), "eager", right, allowed=0.04)
    assert [entry["what"] for entry in made.report["failed"]] == ["it"] * (off != 0)
    assert made.report["checks"][0]["error"] == pytest.approx(off / 4, nan_ok=True)


@pytest.mark.parametrize(
    ("error", "end"),
    [(MissingDependencyError("no GPU."), "skipped"), (InputError("it failed."), "failed"), (ValueError(), "failed")],
)
def test_only_what_is_not_there_is_skipped(monkeypatch: pytest.MonkeyPatch, error: Exception, end: str) -> None:
    def raises() -> Any:
        raise error

    made = suite(monkeypatch, raises)
    made.check("it", Path("x"), "eager", [], allowed=1)
    assert [entry["what"] for entry in made.report[end]] == ["it"]
    assert not made.report["checks"]
