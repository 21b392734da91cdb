"""Which patches are left: pictures in which pruned patches are dark and merged ones share their mean colour."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pumer_convert.checkpoint.locate import resolve
from pumer_convert.errors import InputError
from pumer_convert.image_processor.open_picture import MAX_PIXELS
from pumer_convert.system.output import check_files, output_files

DARK = 0.15
GAP = 8
TYPES = (".png", ".jpg", ".jpeg", ".webp")


def survivors(pixels: NDArray[np.uint8], source: NDArray[np.int64], rows: int, columns: int) -> NDArray[np.uint8]:
    """`pixels` [H, W, 3] as the last layer has them; `source` [1 + rows * columns]: where each token is now, -1 when
    pruned (see `Tokens.source`; the first is CLS)."""
    height, width = pixels.shape[0] // rows, pixels.shape[1] // columns
    of_pixel = np.kron(source[1:].reshape(rows, columns), np.ones((height, width), dtype=np.int64))
    shown = pixels[: rows * height, : columns * width].astype(np.float64)
    for place in np.unique(of_pixel):
        here = of_pixel == place
        shown[here] = shown[here] * DARK if place < 0 else shown[here].mean(0)
    return shown.round().astype(np.uint8)


def show(
    path: Path | str,
    pictures: Path | str | Sequence[Path | str],
    text: str,
    out: Path | str,
    *,
    overwrite: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> dict[str, Any]:
    """Ask the checkpoint folder `path` about a picture's file (or a pair of them) and draw to `out`, for each, the
    picture as the model sees it beside what is left of it in the last layer.

    Gives the report: the answer, the numbers of tokens before and after, and how many patches were pruned. Raises
    InputError for a checkpoint without tokenizer, a picture that cannot be read or has more than `max_pixels`, and an
    `out` that is no picture's name.
    """
    import torch

    from pumer_convert.models.spec import grid
    from pumer_convert.runtime.eager import TorchRuntime
    from pumer_convert.runtime.pipeline import Pipeline

    path, out = resolve(path), Path(out)
    files = [Path(file) for file in ([pictures] if isinstance(pictures, Path | str) else pictures)]
    if out.suffix.lower() not in TYPES:
        raise InputError(f"{out}: name a picture to draw, ending in {', '.join(TYPES)}.")
    if not path.is_dir():
        raise InputError(f"{path}: not a checkpoint folder; an exported file does not tell where its tokens went.")
    check_files(out, overwrite, inputs=files)
    pipeline = Pipeline(path, device="cpu", max_pixels=max_pixels)
    assert isinstance(pipeline.runtime, TorchRuntime)
    pixels = pipeline.pixels(files)
    runtime, words = pipeline.runtime, pipeline.preprocessor.words([text])
    given = {name: torch.from_numpy(value) for name, value in (words | pipeline.preprocessor.arrange([pixels])).items()}
    with torch.inference_mode():
        output = runtime.model(runtime.signature.name, given)
    grids = [grid(part.shape[-2:], runtime.pictures.patch) for part in pixels]
    # Of a pair, the smaller picture's places end before those of the larger one.
    source = output.image.source
    assert source is not None
    sources = [s[: 1 + r * c] for s, (r, c) in zip(source.numpy(), grids, strict=True)]
    seen = [_as_seen(part, pipeline.preprocessor.image) for part in pixels]
    panels = [(part, survivors(part, s, *sides)) for part, s, sides in zip(seen, sources, grids, strict=True)]
    with output_files(out, overwrite, inputs=files) as target:
        sheet(panels).save(target)
    answer = pipeline.answer(output.logits[0].double().numpy())
    return {
        "out": str(out),
        "notes": [note for note in (pipeline.preprocessor.cut([text]),) if note],
        "answer": answer.text,
        "score": answer.score,
        "image_tokens": [len(sources[0]), int(output.image.mask[0].sum())],
        "text_tokens": [int(pipeline.preprocessor.text([text])[1].sum()), int(output.text.mask[0].sum())],
        "patches": len(sources[0]) - 1,
        "pruned": [int((source[1:] < 0).sum()) for source in sources],
    }


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
