"""Writing weights: safetensors, tensor by tensor."""

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pumer_convert.weights import BYTES

if TYPE_CHECKING:
    from torch import Tensor

_NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64"}
SHARD_BYTES = 4 * 2**30


def write_safetensors(
    folder: Path,
    tensors: Iterable[tuple[str, "Tensor"]],
    layout: Mapping[str, tuple[str, tuple[int, ...]]],
    shard_bytes: int = SHARD_BYTES,
) -> dict[str, str]:
    """Write named tensors to model.safetensors in `folder`, or to shards with an index; file name -> sha256.

    `layout` gives name -> (dtype, shape) in the order of `tensors`. Only two tensors are held at a time (one is
    hashed while the next is read), which the format's own writer cannot do.
    """
    shards: list[list[str]] = [[]]
    filled = 0
    for name, (dtype, shape) in layout.items():
        size = prod(shape) * BYTES[dtype]
        if shards[-1] and filled + size > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    stream = iter(tensors)
    hashes: dict[str, str] = {}
    where: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        hashes[file] = _write_shard(folder / file, names, layout, stream)
        where.update(dict.fromkeys(names, file))
    if len(shards) > 1:
        total = sum(prod(shape) * BYTES[dtype] for dtype, shape in layout.values())
        index = {"metadata": {"total_size": total}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), "utf-8")
    return hashes


def _write_shard(
    file: Path,
    names: list[str],
    layout: Mapping[str, tuple[str, tuple[int, ...]]],
    stream: "Iterator[tuple[str, Tensor]]",
) -> str:
    import torch

    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name in names:
        dtype, shape = layout[name]
        end = offset + prod(shape) * BYTES[dtype]
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    digest = hashlib.sha256()
    with file.open("wb") as out, ThreadPoolExecutor(1) as beside:
        hashed = None
        for chunk in (struct.pack("<Q", len(head)), head):
            digest.update(chunk)
            out.write(chunk)
        for name in names:
            given, tensor = next(stream)
            assert given == name, (given, name)
            data: Any = tensor.detach().contiguous().flatten().view(torch.uint8).numpy()
            if hashed is not None:
                hashed.result()  # no more than two tensors are held
            hashed = beside.submit(digest.update, data)
            out.write(data)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()
