"""What stands among the words of a language model as an ONNX graph of its own, embedding.onnx."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pumer_convert.errors import InputError
from pumer_convert.weights import Checkpoint

OPSET = 20
WORDS = "embed_tokens.weight"
"""How the name of the table of words ends in every checkpoint of a language model that is read."""
TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}


def word_table(whole: Checkpoint) -> torch.Tensor:
    """The embeddings [V, D] of the words of a whole model in their own type, times what its class multiplies them by;
    nothing else is read. Raises InputError where there is no such table, or it is not of floating point."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    names = [name for name in whole.source.names() if name.endswith(WORDS)]
    if len(names) != 1 or whole.source.dtype(names[0]) not in TYPES:
        kinds = ", ".join(TYPES)
        raise InputError(f"{whole.path}: its language model has no one table '{WORDS}' of {kinds}.")
    with whole.source.reader() as read:
        table = read(names[0])
    config = {key: value for key, value in whole.config.items() if key != "pumer"}
    made: Any = AutoModelForImageTextToText
    with torch.device("meta"):
        embeddings = made.from_config(AutoConfig.for_model(**config)).get_input_embeddings()
    scale = getattr(embeddings, "scalar_embed_scale", 1.0)
    return table if scale == 1.0 else table * torch.tensor(scale).to(table.dtype)


def write_words(file: Path, table: torch.Tensor, image_token: int, dtype: str, inline: int) -> None:
    """Write input_ids int64 [batch, sequence] and image_features float32 [features, D] -> inputs_embeds [batch,
    sequence, D] of type `dtype`: the rows of the `table`, and in the places of the image token the features in their
    order. A place more than there are features is an error of the runtime; without any the token is a word, as at every
    step after the prompt. A table of more than `inline` bytes stands beside the file."""
    width = table.shape[1]
    kind = TYPES[dtype]

    def numbers(name: str, *values: int) -> onnx.TensorProto:
        return numpy_helper.from_array(np.array(values, np.int64), name)

    weights = [
        _tensor("words", table),
        numbers("token", image_token),
        numbers("flat", -1),
        numbers("first", 0),
        numbers("last", -1),
        onnx.numpy_helper.from_array(np.array(0, np.int64), "zero"),
        _tensor("nothing", torch.zeros(1, width, dtype=getattr(torch, dtype))),
    ]
    nodes = [
        # Without features no place is one of them.
        ("Shape", ["image_features"], "count", {"start": 0, "end": 1}),
        ("Greater", ["count", "first"], "any", {}),
        ("Equal", ["input_ids", "token"], "named", {}),
        ("And", ["named", "any"], "seen", {}),
        # Row 0 is nothing, for Gather wants a row for every place.
        ("Cast", ["image_features"], "typed", {"to": kind}),
        ("Concat", ["nothing", "typed"], "rows", {"axis": 0}),
        ("Reshape", ["seen", "flat"], "line", {}),
        ("Cast", ["line"], "ones", {"to": TensorProto.INT64}),
        ("CumSum", ["ones", "zero"], "number", {}),
        ("Mul", ["number", "ones"], "row", {}),
        ("Gather", ["rows", "row"], "picked", {"axis": 0}),
        ("Where", ["seen", "first", "input_ids"], "spelled", {}),
        ("Gather", ["words", "spelled"], "word", {"axis": 0}),
        ("Cast", ["word"], "text", {"to": kind}),
        ("Shape", ["text"], "shape", {}),
        ("Reshape", ["picked", "shape"], "pictures", {}),
        ("Unsqueeze", ["seen", "last"], "choice", {}),
        ("Where", ["choice", "pictures", "text"], "inputs_embeds", {}),
    ]
    graph = helper.make_graph(
        [helper.make_node(op, given, [gives], name=gives, **how) for op, given, gives, how in nodes],
        "embedding",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"]),
            helper.make_tensor_value_info("image_features", TensorProto.FLOAT, ["features", width]),
        ],
        [helper.make_tensor_value_info("inputs_embeds", kind, ["batch", "sequence", width])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    model.producer_name = "pumer-convert"
    large = table.nbytes > inline
    beside: dict[str, Any] = {"save_as_external_data": True, "location": f"{file.name}.data", "size_threshold": 2**20}
    onnx.save(model, str(file), **(beside if large else {}))


def _tensor(name: str, tensor: torch.Tensor) -> onnx.TensorProto:
    kind = str(tensor.dtype).removeprefix("torch.")
    bits = tensor.contiguous().view(torch.uint8).numpy() if tensor.dtype == torch.bfloat16 else None
    data: NDArray[Any] = tensor.contiguous().numpy() if bits is None else bits
    return helper.make_tensor(name, TYPES[kind], list(tensor.shape), data.tobytes(), raw=True)
