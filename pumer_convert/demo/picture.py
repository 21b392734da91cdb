"""Which patches are left: pictures in which pruned patches are dark and merged ones share their mean colour."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pumer_convert.data.sample import Sample

if TYPE_CHECKING:
    from torch import nn

    from pumer_convert.data.preprocess import Preprocessor

ZOOM = 3
LINE = 14
DARK = 0.15


def survivors(pixels: NDArray[np.uint8], source: NDArray[np.int64]) -> NDArray[np.uint8]:
    """`pixels` [S, S, 3] as the last layer has them; `source` [1 + G * G]: where each token is now, -1 when pruned
    (see `Tokens.source`; the first is CLS)."""
    side = round((len(source) - 1) ** 0.5)
    patch = pixels.shape[0] // side
    of_pixel = np.kron(source[1:].reshape(side, side), np.ones((patch, patch), dtype=np.int64))
    shown = pixels.astype(np.float64)
    for place in np.unique(of_pixel):
        here = of_pixel == place
        shown[here] = shown[here] * DARK if place < 0 else shown[here].mean(0)
    return shown.round().astype(np.uint8)


def draw_survivors(
    model: "nn.Module",
    preprocessor: "Preprocessor",
    samples: Sequence[Sample],
    answers: tuple[Sequence[str], Sequence[str]],
    file: Path,
) -> None:
    """For each sample its picture, what the model keeps of it, the question, and the answers of (dense, model)."""
    import torch

    panels = []
    for i, sample in enumerate(samples):
        picture = sample.pictures[0].open()
        ids, mask = preprocessor.text([sample.text])
        pixels = torch.from_numpy(preprocessor.pixels(picture))[None]
        with torch.inference_mode():
            output = model(torch.from_numpy(ids), torch.from_numpy(mask), pixels)
        kept = survivors(np.asarray(picture), output.image.source[0].numpy())
        panels.append(_panel(picture, kept, sample.text, f"dense: {answers[0][i]}   reduced: {answers[1][i]}"))
    sheet = Image.new("RGB", (panels[0].width, sum(panel.height for panel in panels)), "white")
    for i, panel in enumerate(panels):
        sheet.paste(panel, (0, i * panel.height))
    sheet.save(file)


def _panel(picture: Image.Image, kept: NDArray[np.uint8], question: str, answer: str) -> Image.Image:
    side = picture.width * ZOOM
    panel = Image.new("RGB", (2 * side + 12, side + 2 * LINE + 12), "white")
    for x, image in ((4, picture), (side + 8, Image.fromarray(kept))):
        panel.paste(image.resize((side, side), Image.Resampling.NEAREST), (x, 4))
    pen = ImageDraw.Draw(panel)
    pen.text((4, side + 6), question, fill="black")
    pen.text((4, side + 6 + LINE), answer, fill="black")
    return panel
