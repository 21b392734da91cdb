"""The demo's picture: what the model keeps of some scenes, with the questions and answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pumer_convert.data.sample import Sample
from pumer_convert.visualize.visualize import survivors

if TYPE_CHECKING:
    from torch import nn

    from pumer_convert.data.preprocess import Preprocessor

ZOOM = 3
LINE = 14


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
        source = output.image.source[0, 1:].numpy()  # without CLS
        side = round(len(source) ** 0.5)
        kept = survivors(np.asarray(picture), source, side, side)
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
