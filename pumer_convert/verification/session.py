"""An exported ONNX file on ONNX Runtime's CPU, with the decisions of its reducers in view."""

import contextlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from pumer_convert.errors import InputError
from pumer_convert.models.inputs import Port
from pumer_convert.models.signature import Signature, signature_of
from pumer_convert.system.paths import check_utf8
from pumer_convert.system.whole import check_whole

HALF = {onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.BFLOAT16: "bfloat16"}

_DECISION = re.compile(r"\w+(\.\d+)?/(prune|merge)\.(image|text)")
"""A decision's name, such as "fusion.0/prune.image"."""
SMALL = 1024
"""Tensors of up to this many bytes stay in the graph, where ONNX Runtime looks for shapes."""


@dataclass(frozen=True)
class DecisionSession:
    """`dtype` is the type of the weights, `signature` what it takes and gives, as far as a graph tells."""

    dtype: str
    signature: Signature
    decisions: tuple[str, ...]
    session: Any

    def run(self, inputs: dict[str, NDArray[Any]]) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.int64]]]:
        """The outputs, and what every reducer decided (see `Reduction.decision`), by name."""
        names = [*self.signature.names, *self.decisions]
        values = dict(zip(names, self.session.run(names, inputs), strict=True))
        return {name: values.pop(name) for name in self.signature.names}, values


@contextlib.contextmanager
def open_graph(path: Path) -> Iterator[DecisionSession]:
    """Open a file that `export_onnx` wrote. Raises InputError when it is not one or cannot be run."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such ONNX file.")
    check_utf8(path)
    check_whole(path)
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise InputError(f"{path}: not a readable ONNX file.") from error
    if not model.graph.initializer:
        raise InputError(f"{path}: it has no weights; it was not exported by pumer-convert.")
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: _shape(value) for value in model.graph.input if value.name not in weights}
    outputs = [Port(value.name, _dtype(value), _shape(value)) for value in model.graph.output]
    try:
        signature = signature_of(inputs, outputs)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    # Of layers that stay in float32 the weights are beside those of the others.
    types = {tensor.data_type for tensor in model.graph.initializer}
    dtype = next((name for kind, name in HALF.items() if kind in types), "float32")
    decisions = decisions_in(model)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in decisions)
    with tempfile.TemporaryDirectory() as scratch:
        folder = path.parent
        if dtype == "bfloat16":
            _widen(model, path.parent, folder := Path(scratch))
        yield DecisionSession(dtype, signature, tuple(decisions), _session(model, folder, path))


def decisions_in(model: onnx.ModelProto) -> list[str]:
    """The names of the decisions in a graph."""
    return [name for node in model.graph.node for name in node.output if _DECISION.fullmatch(name)]


def _shape(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    return tuple(side.dim_value or side.dim_param for side in value.type.tensor_type.shape.dim)


def _dtype(value: onnx.ValueInfoProto) -> str:
    return str(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name)


def _session(model: onnx.ModelProto, weights: Path, path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # what a pass took is given back
    options.enable_mem_reuse = False  # planned in time that grows with the square of the graph
    # Weights beside the model stay mapped from their file; repacked for speed they would be in memory once more.
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(weights.absolute()))
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{path}: ONNX Runtime cannot load it: {first}") from error


def _widen(model: onnx.ModelProto, folder: Path, scratch: Path) -> None:
    """Turn bfloat16 into float32 with the same weights, which go to a file in `scratch` one by one: ONNX Runtime's CPU
    has no bfloat16 kernels."""
    narrow, wide = onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT

    with (scratch / "weights").open("wb") as out:
        for tensor in model.graph.initializer:
            values = onnx.numpy_helper.to_array(tensor, str(folder))
            values = values.astype(np.float32) if tensor.data_type == narrow else values
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
            if len(tensor.raw_data) > SMALL:
                onnx.external_data_helper.set_external_data(tensor, "weights", out.tell(), len(tensor.raw_data))
                out.write(tensor.raw_data)
                tensor.ClearField("raw_data")
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == narrow:
                attribute.i = wide
            if attribute.HasField("t") and attribute.t.data_type == narrow:
                values = onnx.numpy_helper.to_array(attribute.t).astype(np.float32)
                attribute.t.CopyFrom(onnx.numpy_helper.from_array(values, attribute.t.name))
    del model.graph.value_info[:]
