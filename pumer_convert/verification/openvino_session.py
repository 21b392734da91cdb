"""An exported ONNX file in OpenVINO, on the CPU, with the decisions of its reducers in view."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from pumer_convert.models.signature import Signature
from pumer_convert.verification.session import DecisionSession, decisions_in

EXACT = {"INFERENCE_PRECISION_HINT": "f32"}
"""What a CPU is told so that it computes in float32 even where it would be faster in half precision."""


@dataclass(frozen=True)
class _Compiled:
    model: Any

    def run(self, names: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Those outputs, as ONNX Runtime's session gives them."""
        found = self.model(dict(inputs))
        return [np.array(found[name]) for name in names]


@contextlib.contextmanager
def open_in_openvino(path: Path, onnx_file: Path, dtype: str, signature: Signature) -> Iterator[DecisionSession]:
    """For `verify_onnx`: what OpenVINO makes of an `onnx_file` in standard operators with weights of type `dtype` and
    this signature; `path` is what was made of it. A file with the decisions as outputs is written beside it."""
    import openvino

    graph = onnx.load(str(onnx_file), load_external_data=False)
    decisions = decisions_in(graph)
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in decisions)
    seen = onnx_file.with_name(f"decisions.{onnx_file.name}")
    onnx.save(graph, str(seen))
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(seen), "CPU", EXACT)
    yield DecisionSession(dtype, signature, tuple(decisions), _Compiled(compiled))
