"""Dense against reduced, in turns, in one runtime: how much faster, and how much of what the saved MACs allow."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pumer_convert.artifact.sidecar import read_sidecar
from pumer_convert.benchmark.memory import peak
from pumer_convert.benchmark.reducer_cost import strip_reducers
from pumer_convert.checkpoint.locate import resolve
from pumer_convert.checkpoint.origin import Origin, origin_of
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.load import plan_of, signature_of
from pumer_convert.errors import InputError
from pumer_convert.evaluation.compatibility import check_comparable
from pumer_convert.image_processor.picture_input import settings_of
from pumer_convert.models.inputs import CHANNELS, IDS, MASK, PIXELS, PictureInput
from pumer_convert.models.signature import Signature
from pumer_convert.runtime.base import Runtime, packed
from pumer_convert.runtime.onnx import OnnxRuntime
from pumer_convert.runtime.open import open_runtime
from pumer_convert.weights import Checkpoint

RUNTIMES = {"eager": "", "compiled": "", "onnx": ".onnx", "engine": ".engine"}
"""Name -> the ending of the exported file in a checkpoint's folder that it runs."""


@dataclass(frozen=True)
class Times:
    """Seconds of one pass: the median and the 95th and 99th percentile; examples per second at the median."""

    p50: float
    p95: float
    p99: float
    rate: float

    @classmethod
    def of(cls, seconds: NDArray[np.float64], batch: int) -> "Times":
        """Of several passes with a batch."""
        p50, p95, p99 = (float(value) for value in np.percentile(seconds, (50, 95, 99)))
        return cls(p50, p95, p99, batch / p50)


@dataclass(frozen=True)
class Cell:
    """One shape. `ratio` is the median over pairs of dense time / reduced time, `low` and `high` its quartiles;
    `macs` is what the saved MACs allow; `realised` is ratio / macs. `memory` is what a pass takes beyond the weights,
    (dense, reduced) bytes; `reducers` is the reducers' share of the reduced model's time, the median over passes in
    turn with a model whose reducers cost nothing (see `strip_reducers`). None where not measured."""

    runtime: str
    batch: int
    text: int
    dense: Times
    reduced: Times
    ratio: float
    low: float
    high: float
    macs: float
    realised: float
    memory: tuple[int, int] | None = None
    reducers: float | None = None


@dataclass(frozen=True)
class Bench:
    """Everything that was measured, on `device`, in `dtype`, over `repeats` pairs of passes."""

    dense: str
    reduced: str
    device: str
    dtype: str
    repeats: int
    cells: tuple[Cell, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def bench(
    reduced: Path | str,
    dense: Path | str | None = None,
    *,
    runtimes: tuple[str, ...] = ("eager",),
    batches: tuple[int, ...] = (1, 4),
    texts: tuple[int, ...] = (32,),
    aspect: tuple[int, int] = (1, 1),
    repeats: int = 11,
    device: str = "auto",
    dtype: str = "float32",
    memory: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Bench:
    """Time the checkpoint folder `reduced` against `dense` (default: the one that its report.json names). They take
    turns, so that whatever else the machine does slows both. Random inputs; every text fills its length.

    `runtimes` of `RUNTIMES`; "onnx" and "engine" take what `export` wrote into both folders. Two passes warm up.
    `aspect`, width to height, is that of the pictures where they keep their shape. `memory` measures that as well, in
    processes of their own (see `peak`). The reducers' share is told of "onnx".
    Raises InputError when the two are unlike (see `check_comparable`; the type and image size of exported files) or a
    file is missing, MissingDependencyError for a device or package.
    """
    reduced = resolve(reduced)
    source = Origin(resolve(dense)) if dense is not None else origin_of(reduced) or Origin(None)
    if source.place is None or not source.place.exists():
        why = f" ({source.why})" if source.why else ""
        raise InputError(f"{reduced}: the dense checkpoint that it was made from is not known or gone{why}; name it.")
    if source.why:
        progress(f"{source.why}.")
    paths = {"dense": source.place, "reduced": reduced}
    checkpoints = {name: open_checkpoint(path) for name, path in paths.items()}
    check_comparable(checkpoints["reduced"], checkpoints["dense"])
    _check_attention(checkpoints["reduced"], checkpoints["dense"])
    if repeats < 3:
        raise InputError(f"{repeats} pairs of passes say nothing; take 3 or more.")
    graph = signature_of(checkpoints["reduced"]).name
    cells = []
    for runtime in runtimes:
        if runtime not in RUNTIMES:
            raise InputError(f"there is no runtime '{runtime}' to bench; allowed: {', '.join(RUNTIMES)}.")
        opened = {name: _open(path, graph, runtime, device, dtype) for name, path in paths.items()}
        signature = opened["dense"].signature
        size = _size(checkpoints["reduced"], opened["reduced"].pictures, aspect)
        if signature.inputs != opened["reduced"].signature.inputs:
            raise InputError(f"{paths['dense']} and {paths['reduced']} take images of other sizes; export both alike.")
        file = reduced / f"{graph}{RUNTIMES[runtime]}"
        if runtime == "onnx" and (free := strip_reducers(file)) is not None:
            opened["free"] = OnnxRuntime(file, device, graph=free, reuse=True)
        for batch in batches:
            for text in texts if signature.text is not None else (0,):
                progress(f"{runtime}: batch {batch}, {text} text tokens")
                # A tower of pictures takes no text, whatever the whole model takes.
                plans = {name: plan_of(one, text or None, size, graph) for name, one in checkpoints.items()}
                macs = plans["reduced"].ratio / plans["dense"].ratio
                inputs = _inputs(batch, text, signature, size)
                more: dict[str, Any] = {}
                if memory:
                    more["memory"] = _memory(paths, graph, runtime, device, dtype, inputs)
                cells.append(_cell(opened, runtime, (batch, text), inputs, repeats, macs, more))
    return Bench(str(paths["dense"]), str(paths["reduced"]), device, dtype, repeats, tuple(cells))


def _size(checkpoint: Checkpoint, pictures: PictureInput, aspect: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the pictures: the one size, or what the processor makes of large ones of that `aspect`.
    Raises InputError for an aspect too thin for it."""
    if pictures.size is not None:
        return pictures.size
    width, height = aspect
    try:
        return settings_of(checkpoint.processor, checkpoint.family).resized(height * 1000, width * 1000)
    except ValueError as error:
        raise InputError(f"pictures of {width}:{height} cannot be measured: {error}.") from None


def _check_attention(reduced: Checkpoint, dense: Checkpoint) -> None:
    """Raises InputError when only the reduced one has fused attention: that would count as speed of the reduction."""
    plain = [c.config.get("pumer", {}).get("attention") == "reference" for c in (reduced, dense)]
    if plain == [False, True]:
        raise InputError(
            f"{dense.path} has the published code's own attention and {reduced.path} a fused one, which is faster with "
            f"no reduction at all; apply a recipe with `reduce: []` to the dense one and bench against the result."
        )


def _open(path: Path, graph: str, runtime: str, device: str, dtype: str, arena: bool = True) -> Runtime:
    if not RUNTIMES[runtime]:
        return open_runtime(path, device=device, dtype=dtype, compiled=runtime == "compiled", graph=graph)
    file = f"{graph}{RUNTIMES[runtime]}"
    if not (path / file).exists():
        flag = "--trt " if runtime == "engine" else ""
        raise InputError(f"{path / file}: missing; run `pumer-convert export {flag}--dtype {dtype} {path}` first.")
    own = read_sidecar(path / f"{graph}.onnx")["dtype"]
    if own != dtype:
        raise InputError(f"{path / file}: exported in {own}, not {dtype}; export it anew or say --dtype {own}.")
    if runtime == "onnx":
        return OnnxRuntime(path / file, device, arena, reuse=True)  # as an application gets it by default
    return open_runtime(path / file, device=device)


def _inputs(batch: int, text: int, signature: Signature, size: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """Random inputs; pictures that keep their shape are of `size` (height, width)."""
    random = np.random.default_rng(0)
    inputs: dict[str, NDArray[Any]] = {}
    if signature.text is not None:
        shape = (batch, signature.text.length or text)
        values = {IDS: random.integers(5, 50, shape), MASK: np.ones(shape, np.int64)}
        inputs = {port.name: values[port.name] for port in signature.text.ports}
    if (pictures := signature.pictures) is None:
        return inputs
    pair = (pictures.images,) if pictures.images > 1 else ()
    pixels = random.standard_normal((batch, *pair, CHANNELS, *(pictures.size or size)), np.float32)
    return inputs | (packed(pixels, pictures) if pictures.packed else {PIXELS: pixels})


def _memory(
    paths: Mapping[str, Path], graph: str, runtime: str, device: str, dtype: str, inputs: dict[str, NDArray[Any]]
) -> tuple[int, int] | None:
    dense, reduced = (
        peak(partial(_open, paths[name], graph, runtime, device, dtype, arena=False), inputs)
        for name in ("dense", "reduced")
    )
    return None if dense is None or reduced is None else (dense, reduced)


def _cell(
    opened: dict[str, Runtime],
    runtime: str,
    shape: tuple[int, int],
    inputs: dict[str, NDArray[Any]],
    repeats: int,
    macs: float,
    more: dict[str, Any],
) -> Cell:
    batch, text = shape
    seconds: dict[str, list[float]] = {name: [] for name in opened}
    for turn in range(repeats + 2):
        for name in opened if turn % 2 else reversed(opened):
            start = time.perf_counter()
            opened[name](**inputs)  # numpy comes out, so the device has finished
            seconds[name].append(time.perf_counter() - start)
    dense, reduced = (np.array(seconds[name][2:]) for name in ("dense", "reduced"))
    low, ratio, high = (float(value) for value in np.percentile(dense / reduced, (25, 50, 75)))
    if "free" in opened:
        more["reducers"] = float(np.median(1 - np.array(seconds["free"][2:]) / reduced))
    times = (Times.of(dense, batch), Times.of(reduced, batch))
    return Cell(runtime, batch, text, *times, ratio, low, high, macs, ratio / macs, **more)
