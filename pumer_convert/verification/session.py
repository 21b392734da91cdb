"""An exported ONNX file on ONNX Runtime's CPU, with the decisions of its reducers in view."""

import contextlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from pumer_convert.errors import InputError
from pumer_convert.models.inputs import PictureInput
from pumer_convert.system.paths import check_utf8
from pumer_convert.system.whole import check_whole

DTYPES = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.BFLOAT16: "bfloat16"}

_DECISION = re.compile(r"\w+\.\d+/(prune|merge)\.(image|text)")
"""A decision's name, such as "fusion.0/prune.image"."""
SMALL = 1024
"""Tensors of up to this many bytes stay in the graph, where ONNX Runtime looks for shapes."""


@dataclass(frozen=True)
class DecisionSession:
    """`dtype` is the type of the weights, `pictures` how it takes pictures, as far as a graph tells."""

    dtype: str
    pictures: PictureInput
    decisions: tuple[str, ...]
    session: Any

    def run(self, inputs: dict[str, NDArray[Any]]) -> tuple[NDArray[np.float32], dict[str, NDArray[np.int64]]]:
        """The logits [B, labels], and by name what every reducer decided (see `Reduction.decision`)."""
        logits, *decided = self.session.run(["logits", *self.decisions], inputs)
        return logits, dict(zip(self.decisions, decided, strict=True))


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
    shapes = {
        value.name: [side.dim_value or side.dim_param for side in value.type.tensor_type.shape.dim]
        for value in model.graph.input
        if value.name not in {tensor.name for tensor in model.graph.initializer}
    }
    try:
        pictures = PictureInput.of_shapes(shapes)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    largest = max(model.graph.initializer, key=lambda tensor: prod(tensor.dims))
    dtype = DTYPES.get(largest.data_type, "float32")
    decisions = [name for node in model.graph.node for name in node.output if _DECISION.fullmatch(name)]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in decisions)
    with tempfile.TemporaryDirectory() as scratch:
        weights = path.parent
        if dtype == "bfloat16":
            _widen(model, path.parent, weights := Path(scratch))
        yield DecisionSession(dtype, pictures, tuple(decisions), _session(model, weights, path))


def _session(model: onnx.ModelProto, weights: Path, path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # what a pass took is given back
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
