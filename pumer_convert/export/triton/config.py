"""The config.pbtxt of Triton's models."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pumer_convert.errors import InputError, nearest

BACKENDS = {
    "onnxruntime": 'backend: "onnxruntime"\ndefault_model_filename: "model.onnx"',
    "tensorrt": 'backend: "tensorrt"\ndefault_model_filename: "model.plan"',
    "python": 'backend: "python"',
}
DELAY = 1000
"""Microseconds that a request waits at most for others to share its batch."""


def check_backend(backend: str) -> None:
    """Raises InputError for a backend that is not among `BACKENDS`."""
    if backend not in BACKENDS:
        raise InputError(f"there is no Triton backend '{backend}'.{nearest(backend, BACKENDS)}")


@dataclass(frozen=True)
class Tensor:
    """Name, Triton's type without "TYPE_", and the sides of one example, -1 for a dynamic one; `warm` are those of a
    warm-up's."""

    name: str
    kind: str
    dims: Sequence[int]
    labels: bool = False
    warm: Sequence[int] = ()


def model_config(
    name: str,
    backend: str,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    *,
    most_batch: int,
    instances: int = 1,
    cpu: bool = False,
    profiles: int = 0,
    warmup: dict[str, str] | None = None,
) -> str:
    """As text. `warmup` says of every input what a first request holds: "zero" or the name of a file in warmup/."""
    group = f"instance_group [ {{ kind: {'KIND_CPU' if cpu else 'KIND_AUTO'}, count: {instances}"
    group += f", profile: [ {', '.join(_quoted(i) for i in range(profiles))} ]" if profiles > 1 else ""
    parts = [
        f"name: {_quoted(name)}",
        BACKENDS[backend],
        f"max_batch_size: {most_batch}",
        *(_tensor("input", tensor) for tensor in inputs),
        *(_tensor("output", tensor) for tensor in outputs),
        f"dynamic_batching {{ max_queue_delay_microseconds: {DELAY} }}",
        group + " } ]",
        "version_policy { latest { num_versions: 1 } }",
    ]
    if warmup:
        parts.append(_warmup(inputs, warmup))
    return "\n".join(parts) + "\n"


def _tensor(kind: str, tensor: Tensor) -> str:
    labels = ', label_filename: "labels.txt"' if tensor.labels else ""
    return f"{kind} [ {{ name: {_quoted(tensor.name)}, data_type: TYPE_{tensor.kind}, {_dims(tensor.dims)}{labels} }} ]"


def _warmup(inputs: Sequence[Tensor], filled: dict[str, str]) -> str:
    entries = []
    for tensor in inputs:
        data = (
            "zero_data: true" if filled[tensor.name] == "zero" else f"input_data_file: {_quoted(filled[tensor.name])}"
        )
        value = f"{{ data_type: TYPE_{tensor.kind}, {_dims(tensor.warm)}, {data} }}"
        entries.append(f"  inputs {{ key: {_quoted(tensor.name)}, value: {value} }}")
    return "\n".join(['model_warmup [ { name: "first", batch_size: 1', *entries, "} ]"])


WARM_TEXT = 16
"""Tokens of the warm-up's text."""


def _dims(dims: Sequence[int]) -> str:
    return f"dims: [ {', '.join(map(str, dims))} ]"


def _quoted(value: Any) -> str:
    return f'"{value}"'
