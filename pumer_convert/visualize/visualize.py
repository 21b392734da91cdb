"""Which patches are left: pictures in which pruned patches are dark and merged ones share their mean colour."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pumer_convert.checkpoint.locate import resolve
from pumer_convert.errors import InputError
from pumer_convert.image_processor.open_picture import MAX_PIXELS
from pumer_convert.system.output import check_files, output_files

if TYPE_CHECKING:
    from pumer_convert.runtime.pipeline import Pipeline

DARK = 0.15
GAP = 8
TYPES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class _Seen:
    """What a model made of pictures or tiles: each as the model takes it, the grid of its patches and where each of its
    tokens is now; tokens before and after, and what is told beside."""

    pixels: Sequence[NDArray[np.float32]]
    settings: Any
    grids: Sequence[tuple[int, int]]
    sources: Sequence[NDArray[np.int64]]
    report: dict[str, Any]


def survivors(pixels: NDArray[np.uint8], source: NDArray[np.int64], rows: int, columns: int) -> NDArray[np.uint8]:
    """`pixels` [H, W, 3] as the last layer has them; `source` [rows * columns]: where each cell's token is now, -1 when
    pruned (see `Tokens.source`)."""
    height, width = pixels.shape[0] // rows, pixels.shape[1] // columns
    of_pixel = np.kron(source.reshape(rows, columns), np.ones((height, width), dtype=np.int64))
    shown = pixels[: rows * height, : columns * width].astype(np.float64)
    for place in np.unique(of_pixel):
        here = of_pixel == place
        shown[here] = shown[here] * DARK if place < 0 else shown[here].mean(0)
    return shown.round().astype(np.uint8)


def show(
    path: Path | str,
    pictures: Path | str | Sequence[Path | str],
    text: str | None,
    out: Path | str,
    *,
    overwrite: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> dict[str, Any]:
    """Ask the checkpoint folder `path` about a picture's file (or a pair of them) and draw to `out`, for each, the
    picture as the model sees it beside what is left of it in the last layer. A tower that reads pictures alone, or the
    vision part of a language model, is asked no `text` and takes one picture, of which each tile is drawn.

    Gives the report: the answer, the numbers of tokens before and after, and how many patches were pruned. Raises
    InputError for a checkpoint without tokenizer, a text that is missing or not for this model, a picture that cannot
    be read or has more than `max_pixels`, and an `out` that is no picture's name.
    """
    from pumer_convert.runtime.pipeline import Pipeline

    path, out = resolve(path), Path(out)
    files = [Path(file) for file in ([pictures] if isinstance(pictures, Path | str) else pictures)]
    if out.suffix.lower() not in TYPES:
        raise InputError(f"{out}: name a picture to draw, ending in {', '.join(TYPES)}.")
    if not path.is_dir():
        raise InputError(f"{path}: not a checkpoint folder; an exported file does not tell where its tokens went.")
    check_files(out, overwrite, inputs=files)
    pipeline = Pipeline(path, device="cpu", max_pixels=max_pixels)
    if pipeline.embeds:
        if text is not None:
            raise InputError(f"{path}: reads its pictures without a text; leave it out.")
        seen = _alone(pipeline, files)
    else:
        if text is None:
            raise InputError(f"{path}: answers a question; give it the text.")
        seen = _asked(pipeline, files, text)
    panels = []
    for part, sides, source in zip(seen.pixels, seen.grids, seen.sources, strict=True):
        picture = _as_seen(part, seen.settings)
        panels.append((picture, survivors(picture, source, *_cells(*sides, len(source)))))
    with output_files(out, overwrite, inputs=files) as target:
        sheet(panels).save(target)
    pruned = [int((source < 0).sum()) for source in seen.sources]
    return {"out": str(out), **seen.report, "patches": len(seen.sources[0]), "pruned": pruned}


def _asked(pipeline: "Pipeline", files: list[Path], text: str) -> _Seen:
    """A question's picture, or pair of them."""
    prepared, pixels = pipeline.preprocessor, pipeline.pixels(files)
    output, grids = _run(pipeline.runtime, prepared.words([text]) | prepared.arrange([pixels]), pixels)
    answer = pipeline.answer(output.logits[0].double().numpy())
    # Of a pair, the smaller picture's places end before those of the larger one.
    sources = [source[: 1 + r * c] for source, (r, c) in zip(output.image.source.numpy(), grids, strict=True)]
    report = {
        "notes": [note for note in (prepared.cut([text]),) if note],
        "answer": answer.text,
        "score": answer.score,
        "image_tokens": [len(sources[0]), int(output.image.mask[0].sum())],
        "text_tokens": [int(prepared.text([text])[1].sum()), int(output.text.mask[0].sum())],
    }
    return _Seen(pixels, prepared.image, grids, [source[1:] for source in sources], report)


def _alone(pipeline: "Pipeline", files: list[Path]) -> _Seen:
    """A picture that is read without a text, or its tiles."""
    if len(files) != 1:
        raise InputError(f"{pipeline.path}: takes one picture at a time, not {len(files)}.")
    graph = pipeline.tower("pictures")
    tiles = pipeline.tiles(files[0])
    output, grids = _run(graph.runtime, graph.preprocessor.arrange([[tile] for tile in tiles]), tiles)
    sources, (rows, columns) = output.image.source.numpy(), grids[0]
    before = sources.shape[1]
    # Before the patches stand CLS and what is with it; a token that is made of several patches has none before it.
    first = max(before - rows * columns, 0)
    report = {"notes": [], "image_tokens": [before, int(output.image.mask[0].sum())]}
    return _Seen(tiles, graph.preprocessor.image, grids, [source[first:] for source in sources], report)


def _run(
    runtime: Any, given: Mapping[str, NDArray[Any]], pixels: Sequence[NDArray[np.float32]]
) -> tuple[Any, list[tuple[int, int]]]:
    """The output of a network's graph, and the grids of its pictures."""
    import torch

    from pumer_convert.models.spec import grid
    from pumer_convert.runtime.eager import TorchRuntime

    assert isinstance(runtime, TorchRuntime)
    with torch.inference_mode():
        output = runtime.model(runtime.signature.name, {name: torch.from_numpy(v) for name, v in given.items()})
    return output, [grid(part.shape[-2:], runtime.pictures.patch) for part in pixels]


def _cells(rows: int, columns: int, count: int) -> tuple[int, int]:
    """The grid of so many tokens, each of a square of as many patches as the others."""
    side = math.isqrt(rows * columns // count)
    return rows // side, columns // side


def sheet(panels: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> Image.Image:
    """Pairs of pictures, the two of a pair of one size, each pair a row."""
    heights, widths = zip(*(pair[0].shape[:2] for pair in panels), strict=True)
    made = Image.new("RGB", (2 * max(widths) + GAP, sum(heights) + GAP * (len(panels) - 1)), "white")
    for row, pair in enumerate(panels):
        for column, part in enumerate(pair):
            made.paste(Image.fromarray(part), (column * (widths[row] + GAP), sum(heights[:row]) + GAP * row))
    return made


def _as_seen(pixels: NDArray[np.float32], settings: Any) -> NDArray[np.uint8]:
    """The bytes [H, W, 3] that normalised pixels [3, H, W] were made of."""
    mean, std = (np.asarray(v)[:, None, None] for v in (settings.mean, settings.std))
    bytes_ = ((pixels * std + mean) / settings.scale).round().clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(bytes_.transpose(1, 2, 0))
