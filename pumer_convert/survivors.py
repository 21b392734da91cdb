"""Which patches are left: pictures in which pruned patches are dark and merged ones share their mean colour."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pumer_convert.checkpoint.locate import resolve
from pumer_convert.errors import InputError
from pumer_convert.files.output import check_files, output_files

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
    pictures: tuple[Path, ...],
    text: str,
    out: Path | str,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Ask the checkpoint folder `path` about a picture (or a pair) and draw to `out`, for each, the picture as the
    model sees it beside what is left of it in the last layer.

    Gives the report: the answer, the numbers of tokens before and after, and how many patches were pruned. Raises
    InputError for a checkpoint without tokenizer or processor, a picture that cannot be read, and an `out` that is no
    picture's name.
    """
    import torch

    from pumer_convert.models.outline import grid
    from pumer_convert.runtime.eager import TorchRuntime
    from pumer_convert.runtime.pipeline import Pipeline

    path, out = resolve(path), Path(out)
    if out.suffix.lower() not in TYPES:
        raise InputError(f"{out}: name a picture to draw, ending in {', '.join(TYPES)}.")
    if not path.is_dir():
        raise InputError(f"{path}: not a checkpoint folder; an exported file does not tell where its tokens went.")
    check_files(out, overwrite, inputs=pictures)
    pipeline = Pipeline(path, device="cpu")
    assert isinstance(pipeline.runtime, TorchRuntime)
    pixels = pipeline.pixels(pictures)
    ids, mask = pipeline.preprocessor.text([text])
    model: Any = pipeline.runtime.model
    with torch.inference_mode():
        output = model(torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(pixels)[None])
    sources = output.image.source.numpy()
    rows, columns = grid(list(pixels.shape[-2:]), model.config["patch_size"])
    seen = [_as_seen(part, pipeline.preprocessor.image) for part in pixels.reshape(-1, *pixels.shape[-3:])]
    panels = [(part, survivors(part, source, rows, columns)) for part, source in zip(seen, sources, strict=True)]
    with output_files(out, overwrite, inputs=pictures) as target:
        sheet(panels).save(target)
    answer = pipeline.answer(output.logits[0].double().numpy())
    return {
        "out": str(out),
        "notes": [note for note in (pipeline.preprocessor.cut([text]),) if note],
        "answer": answer.text,
        "score": answer.score,
        "image_tokens": [sources.shape[1], int(output.image.mask[0].sum())],
        "text_tokens": [int(mask.sum()), int(output.text.mask[0].sum())],
        "patches": rows * columns,
        "pruned": [int((source[1:] < 0).sum()) for source in sources],
    }


def sheet(panels: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> Image.Image:
    """Pairs of pictures of one size, each pair a row."""
    height, width = panels[0][0].shape[:2]
    made = Image.new("RGB", (2 * width + GAP, len(panels) * (height + GAP) - GAP), "white")
    for row, pair in enumerate(panels):
        for column, part in enumerate(pair):
            made.paste(Image.fromarray(part), (column * (width + GAP), row * (height + GAP)))
    return made


def _as_seen(pixels: NDArray[np.float32], settings: Any) -> NDArray[np.uint8]:
    """The bytes [H, W, 3] that normalised pixels [3, H, W] were made of."""
    mean, std = (np.asarray(v)[:, None, None] for v in (settings.mean, settings.std))
    bytes_ = ((pixels * std + mean) / settings.scale).round().clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(bytes_.transpose(1, 2, 0))
