"""RandAugment (Cubuk et al. 2020) with PIL, drawn from a given random source."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

STEPS = 30
"""The magnitude's scale: at 30 a change is as strong as it gets."""

Change = Callable[[Image.Image, float], Image.Image]
"""A picture and a strength from -1 to 1, negative only for changes that have a direction."""


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Change:
    # As in AutoAugment, the factor runs from 0.1 to 1.9 with the magnitude; 1 would change nothing.
    return lambda image, strength: kind(image).enhance(0.1 + 1.8 * strength)


def _shear_x(image: Image.Image, strength: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, (1, 0.3 * strength, 0, 0, 1, 0))


def _shear_y(image: Image.Image, strength: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, (1, 0, 0, 0.3 * strength, 1, 0))


def _move_x(image: Image.Image, strength: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, (1, 0, 0.3 * strength * image.width, 0, 1, 0))


def _move_y(image: Image.Image, strength: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, (1, 0, 0, 0, 1, 0.3 * strength * image.height))


UNDIRECTED: dict[str, Change] = {
    "identity": lambda image, _: image,
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "posterize": lambda image, strength: ImageOps.posterize(image, 8 - round(4 * strength)),
    "solarize": lambda image, strength: ImageOps.solarize(image, round(256 * (1 - strength))),
    "color": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "brightness": _enhance(ImageEnhance.Brightness),
    "sharpness": _enhance(ImageEnhance.Sharpness),
}
DIRECTED: dict[str, Change] = {
    "rotate": lambda image, strength: image.rotate(30 * strength),
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "move_x": _move_x,
    "move_y": _move_y,
}
CHANGES = (*UNDIRECTED, *DIRECTED)
"""The paper's fourteen. Inverting colours and cutting out are not among them: the text asks about both."""


@dataclass(frozen=True)
class RandAugment:
    """`number` changes, drawn one by one, each at `magnitude` of 30; ViLT, METER and PuMer train with (2, 9)."""

    number: int = 2
    magnitude: int = 9

    def __call__(self, image: Image.Image, random: np.random.Generator) -> Image.Image:
        """A changed copy of an RGB picture, of the same size."""
        strength = self.magnitude / STEPS
        for draw in random.integers(len(CHANGES), size=self.number):
            name = CHANGES[draw]
            if name in DIRECTED:
                sign = -1 if random.random() < 0.5 else 1
                image = DIRECTED[name](image, sign * strength)
            else:
                image = UNDIRECTED[name](image, strength)
        return image
