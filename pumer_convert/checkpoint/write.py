"""Writing weights: safetensors, tensor by tensor."""

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pumer_convert.checkpoint.sources import DTYPES, safetensors_header
from pumer_convert.weights import BYTES

if TYPE_CHECKING:
    from torch import Tensor

_NAMES = {name: short for short, name in DTYPES.items()}
SHARD_BYTES = 4 * 2**30
COPIED = 2**24
"""Bytes that are copied at once."""


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


def rewrite(old: Path, new: Path, changed: Mapping[str, tuple[int, ...]], read: "Callable[[str], Tensor]") -> None:
    """Write the safetensors file `old` again as `new`, in which the tensors `changed` to these shapes are what `read`
    gives, in the type they had. The others are copied byte by byte: whatever they are, they are not looked at."""
    import torch

    header, entries = {"__metadata__": {"format": "pt"}}, safetensors_header(old)
    order = sorted(entries, key=lambda name: entries[name]["data_offsets"])
    offset = 0
    for name in order:
        entry = dict(entries[name])
        start, end = entry["data_offsets"]
        if name in changed:
            entry["shape"] = list(changed[name])
            end = start + prod(changed[name]) * BYTES[DTYPES[entry["dtype"]]]
        entry["data_offsets"] = [offset, offset := offset + end - start]
        header[name] = entry
    with old.open("rb") as source, new.open("wb") as out:
        begin = 8 + struct.unpack("<Q", source.read(8))[0]
        head = _head(header)
        out.write(struct.pack("<Q", len(head)) + head)
        for name in order:
            start, end = entries[name]["data_offsets"]
            if name in changed:
                kind = getattr(torch, DTYPES[entries[name]["dtype"]])
                out.write(read(name).to(kind).contiguous().flatten().view(torch.uint8).numpy())  # type: ignore[arg-type]
                continue
            source.seek(begin + start)
            for part in range(start, end, COPIED):
                out.write(source.read(min(COPIED, end - part)))
        out.flush()
        os.fsync(out.fileno())


def _head(header: Mapping[str, object]) -> bytes:
    head = json.dumps(header, separators=(",", ":")).encode()
    return head + b" " * (-len(head) % 8)


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
    head = _head(header)
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
