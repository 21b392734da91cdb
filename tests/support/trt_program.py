"""Building tools/trt_app and an engine for it, and running it."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pumer_convert.artifact.describe import describe
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.demo import CHECKPOINT
from pumer_convert.export.tensorrt import EngineSettings, build_engine
from pumer_convert.recipe.schema import Profile

APP = Path(__file__).parents[2] / "tools" / "trt_app"
COMPILER = next(filter(None, map(shutil.which, ("g++", "c++", "clang++"))), None)
SIDE = 96
PROFILES = (Profile(batch=(1, 1, 4), text=(4, 16, 40)), Profile(batch=(3, 6, 8), text=(8, 32, 40)))
Run = tuple[int, str, str]


def compiled(out: Path, *more: str) -> Path:
    """The program as CMakeLists.txt lists it; where the compiler has them, with checks of every access to memory."""
    if COMPILER is None:
        pytest.skip("no C++ compiler (g++, c++ or clang++) is here")
    listed = re.search(r"add_executable\(trt_app ([^)]*)\)", (APP / "CMakeLists.txt").read_text())
    assert listed is not None
    sources = [str(APP / name) for name in listed[1].split()]
    words = [COMPILER, "-std=c++17", "-pedantic", "-Wall", "-Wextra", "-Werror", *sources, *more, "-o", str(out)]
    for checks in (["-fsanitize=address,undefined", "-fno-sanitize-recover=all"], []):
        done = subprocess.run([*words, *checks], capture_output=True, text=True, check=False)
        if done.returncode == 0 and subprocess.run([out, "--help"], capture_output=True, check=False).returncode == 0:
            return out
    pytest.fail(done.stderr)


def build(folder: Path) -> Path:
    """An engine of a trivial graph, with the inputs, the labels and the sidecar of the demo model."""
    pytest.importorskip("tensorrt_rtx")
    sidecar = describe(open_checkpoint(CHECKPOINT), [SIDE, SIDE])
    labels = len(sidecar["labels"])
    text, picture = ["batch", "text"], ["batch", 3, SIDE, SIDE]
    kinds = {"input_ids": TensorProto.INT64, "attention_mask": TensorProto.INT64, "pixel_values": TensorProto.FLOAT}
    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["words"]),
        helper.make_node("Cast", ["words"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["numbers", "one"], ["total"], keepdims=1),
        helper.make_node("ReduceMean", ["pixel_values", "rest"], ["grey"], keepdims=0),
        helper.make_node("Unsqueeze", ["grey", "one"], ["column"]),
        helper.make_node("Add", ["total", "column"], ["both"]),
        helper.make_node("MatMul", ["both", "spread"], ["logits"]),
    ]
    weights = {"one": np.array([1]), "rest": np.array([1, 2, 3]), "spread": np.linspace(-1, 1, labels)[None]}
    graph = helper.make_graph(
        nodes,
        "trivial",
        [helper.make_tensor_value_info(n, k, picture if n == "pixel_values" else text) for n, k in kinds.items()],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", labels])],
        [onnx.numpy_helper.from_array(v.astype(v.dtype.str.replace("f8", "f4")), n) for n, v in weights.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / "model.onnx"
    )
    build_engine(folder / "model.onnx", settings=EngineSettings("tensorrt-rtx", PROFILES), sidecar=sidecar)
    for file in CHECKPOINT.glob("tokenizer*"):
        shutil.copy(file, folder)
    return folder / "model.engine"


def arrays(rows: int = 1, text: int = 7) -> dict[str, np.ndarray[Any, Any]]:
    return {
        "input_ids": np.arange(rows * text, dtype=np.int64).reshape(rows, text),
        "attention_mask": np.ones((rows, text), np.int64),
        "pixel_values": np.full((rows, 3, SIDE, SIDE), 0.5, np.float32),
    }


def run(program: Path, *words: Any, **environment: int) -> Run:
    given = {**os.environ, **{f"STAND_IN_{name}".upper(): str(value) for name, value in environment.items()}}
    done = subprocess.run([program, *map(str, words)], capture_output=True, check=False, timeout=60, env=given)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def refused(done: Run, says: str, code: int = 2) -> None:
    """One sentence on standard error that says it, and nothing else."""
    assert done[:2] == (code, ""), done
    assert re.fullmatch(rf"Error: .*{says}.*\.\n", done[2]), done[2]
