"""The one writer: everything goes to a place beside the target and is renamed when it is whole."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from math import isfinite, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pumer_convert.errors import InputError
from pumer_convert.weights import BYTES

if TYPE_CHECKING:
    from torch import Tensor

_NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64"}
SHARD_BYTES = 4 * 2**30


def check_out(path: Path, overwrite: bool) -> None:
    """Raises InputError for a place that `output_folder` would refuse, so that long work need not find out last."""
    ours = path.is_dir() and ((path / "report.json").exists() or not any(path.iterdir()))
    if path.exists() and not (overwrite and ours):
        why = "it was not written by pumer-convert, so it is not overwritten" if overwrite else "use --overwrite"
        raise InputError(f"{path}: exists already; {why}.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: its parent folder does not exist.")


@contextlib.contextmanager
def output_folder(path: Path, overwrite: bool) -> Iterator[Path]:
    """A folder to fill, which becomes `path` when the block ends well and is removed when it does not.

    Raises InputError when `path` exists (with `overwrite`: when it is not a folder that this project wrote), when
    its parent cannot be written, and when the disk is full.
    """
    check_out(path, overwrite)
    with _beside(path) as partial:
        yield partial
        old = partial.with_name(partial.name + ".old")
        if path.exists():
            path.rename(old)
        partial.rename(path)
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def output_file(path: Path, overwrite: bool) -> Iterator[Path]:
    """A file to write, in a folder of its own; all files of that folder move beside `path` when the block ends well.

    An earlier `path`.data (weights beside an ONNX file) goes when the new file has none. Raises InputError as
    `output_folder` does.
    """
    if path.is_dir() or (path.exists() and not overwrite):
        raise InputError(f"{path}: exists already; use --overwrite.")
    with _beside(path) as partial:
        yield partial / path.name
        path.with_name(path.name + ".data").unlink(missing_ok=True)
        for file in sorted(partial.iterdir()):
            file.replace(path.parent / file.name)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: its parent folder does not exist.")
    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.absolute().parent))
    except OSError as error:
        raise InputError(f"{path}: cannot be written there ({error.strerror}).") from None
    try:
        partial.chmod(0o755)
        yield partial
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(f"{path}: no space left on the device; nothing was written.") from None
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_safetensors(
    folder: Path,
    tensors: Iterable[tuple[str, "Tensor"]],
    layout: Mapping[str, tuple[str, tuple[int, ...]]],
    shard_bytes: int = SHARD_BYTES,
) -> dict[str, str]:
    """Write named tensors to model.safetensors in `folder`, or to shards with an index; file name -> sha256.

    `layout` gives name -> (dtype, shape) in the order of `tensors`. Only two tensors are held at a time (one is
    hashed while the next is read), which the format's own writer cannot do. Raises InputError naming the first tensor
    with a NaN or an infinity.
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
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    return hashes


def _finite(tensor: "Tensor") -> bool:
    """By the least and the greatest, which a NaN takes over: one pass, where isfinite() of every value makes five."""
    least, greatest = tensor.aminmax()
    return isfinite(least) and isfinite(greatest)


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
            if tensor.is_floating_point() and tensor.numel() and not _finite(tensor):
                raise InputError(f"the weights hold a NaN or an infinity, in '{name}'; nothing was written.")
            data: Any = tensor.detach().contiguous().flatten().view(torch.uint8).numpy()
            if hashed is not None:
                hashed.result()  # no more than two tensors are held
            hashed = beside.submit(digest.update, data)
            out.write(data)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()
