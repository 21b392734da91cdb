"""The part of tools/trt_app that needs a GPU, with headers that stand in for TensorRT's and CUDA's."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from trt_program import APP, arrays, build, compiled, refused, run

from pumer_convert.artifact.engine_sidecar import Sidecar


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("engine"))


def test_the_engine_is_driven_rightly(built: Path, tmp_path: Path) -> None:
    """What goes in and out, what is freed, and every refusal."""
    stand_in = f"-I{Path(__file__).parents[1] / 'support/stand_in'}"
    words = ('-DTRT_APP_FLAVOUR="tensorrt-rtx"', stand_in, str(APP / "engine.cpp"))
    program, sidecar = compiled(tmp_path / "trt_app", *words), Sidecar.of(built)
    major, minor, patch, *_ = map(int, sidecar.values["tensorrt_version"].split("."))
    here = {"version": major * 10000 + minor * 100 + patch, "labels": sidecar.signature.labels}
    given = arrays(5, 9)
    given["input_ids"] = np.random.default_rng(0).integers(-3, 3, (5, 9))
    given["attention_mask"][1:, 6:] = 0
    given["pixel_values"] *= np.arange(1.1, 6, dtype=np.float32)[:, None, None, None]
    both = (given["input_ids"] * given["attention_mask"]).sum(1) + given["pixel_values"].mean((1, 2, 3))
    logits = (both[:, None] * np.linspace(-1, 1, sidecar.signature.labels)).astype(np.float32)
    np.savez(tmp_path / "input.npz", **given)
    np.savez(tmp_path / "logits.npz", logits=logits)
    asked = (program, built, tmp_path / "input.npz")
    expected = run(*asked, "--logits", tmp_path / "logits.npz")
    assert expected[0] == 0
    assert run(*asked, **here, profile=1) == expected

    def told(says: str, code: int = 4, **changed: int) -> None:
        refused(run(*asked, **{**here, **changed}), says, code)

    told("running an engine needs an NVIDIA GPU, and none is here", gpus=0)
    told(r"and this GPU is 7\.5; build it for this one", capability=75)
    told(r"built by tensorrt-rtx .*, and 1\.0\.3 is here; install that version", version=10003)
    told("the GPU cannot hold the inputs: out of memory", full=1)
    told("cannot load it on this GPU; build it again here: it gave no reason", 2, strange=1)
    told("it failed while it ran: a kernel failed", 2, fails=1)
    told("its logits are not what the sidecar says", 2, labels=3)
    shutil.copy(built, tmp_path)
    classic = {**sidecar.values, "flavour": "tensorrt"}
    (tmp_path / "model.engine.json").write_text(json.dumps(classic))
    done = run(program, tmp_path / "model.engine", tmp_path / "input.npz", **here)
    refused(done, "this program was built for tensorrt-rtx; build it with -DFLAVOUR=tensorrt", 4)
