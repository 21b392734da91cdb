"""Draw a scene: things with soft edges and textures on a noisy background, some of it in their way."""

from functools import cache
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pumer_convert.demo.scene import SIDE, Scene

RGB = {
    "red": (215, 40, 45),
    "green": (40, 165, 60),
    "blue": (50, 80, 225),
    "yellow": (240, 225, 60),
    "purple": (150, 50, 190),
    "orange": (245, 135, 25),
    "white": (245, 245, 245),
}
DARK = 0.35
"""Stripes and dots are this share as bright as the rest of the thing."""
FINE = 4
"""Shapes are drawn this many times larger, then averaged: soft edges."""


def draw(scene: Scene) -> NDArray[np.uint8]:
    """The picture of a scene: [96, 96, 3] uint8."""
    return draw_with_owners(scene)[0]


def draw_with_owners(scene: Scene) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """The picture, and which thing is seen at each pixel ([96, 96] int8; -1: the background)."""
    random = np.random.default_rng(scene.seed)
    picture = _background(random)
    owners = np.full((SIDE, SIDE), -1, np.int8)
    for i, thing in enumerate(scene.things):
        r = thing.radius
        area = np.s_[thing.y - r : thing.y + r + 1, thing.x - r : thing.x + r + 1]
        cover = _cover(thing.shape, r)
        bright = _texture(thing.texture, r)
        shade = np.asarray(RGB[thing.color], np.float32) + random.integers(-10, 11, 3, dtype=np.int16)
        picture[area] += cover * (shade * bright - picture[area])
        owners[area][cover[..., 0] > 0.5] = i
    picture += random.integers(-10, 11, picture.shape, dtype=np.int8)
    return picture.clip(0, 255).astype(np.uint8), owners


def _background(random: np.random.Generator) -> NDArray[np.float32]:
    """[96, 96, 3]: soft grey clouds, and a few thin dark or light lines that are nothing."""
    clouds = random.integers(60, 130, (5, 5), dtype=np.uint8)
    grey = Image.fromarray(clouds).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(grey)
    for _ in range(random.integers(0, 4)):
        ends = random.integers(0, SIDE, 4).tolist()
        pen.line(ends, fill=int(random.choice((35, 165))), width=1)
    tint = random.integers(-12, 13, 3).astype(np.float32)
    return np.asarray(grey, np.float32)[..., None] + tint


@cache
def _cover(shape: str, radius: int) -> NDArray[np.float32]:
    """How much of each pixel a shape covers: [2r + 1, 2r + 1, 1] in 0..1."""
    width = 2 * radius + 1
    image = Image.new("L", (width * FINE, width * FINE))
    pen, middle = ImageDraw.Draw(image), width * FINE / 2

    def points(*polar: tuple[float, float]) -> list[tuple[float, float]]:
        """Corners at (angle in turns from the top, share of the radius)."""
        reach = radius * FINE
        return [(middle + reach * s * sin(2 * pi * a), middle - reach * s * cos(2 * pi * a)) for a, s in polar]

    def box(half_width: float, half_height: float) -> list[float]:
        across, up = half_width * radius * FINE, half_height * radius * FINE
        return [middle - across, middle - up, middle + across, middle + up]

    if shape == "circle":
        pen.ellipse(box(0.95, 0.95), fill=255)
    elif shape == "square":
        pen.rectangle(box(0.85, 0.85), fill=255)
    elif shape == "triangle":
        pen.polygon(
            [(middle, box(1, 1)[1]), (box(1, 1)[0], box(1, 0.85)[3]), (box(1, 1)[2], box(1, 0.85)[3])], fill=255
        )
    elif shape == "star":
        pen.polygon(points(*((i / 10, 1.08 if i % 2 == 0 else 0.45) for i in range(10))), fill=255)
    else:
        pen.rectangle(box(0.95, 0.33), fill=255)
        pen.rectangle(box(0.33, 0.95), fill=255)
    fine = np.asarray(image, np.float32).reshape(width, FINE, width, FINE)
    cover: NDArray[np.float32] = fine.mean((1, 3))[..., None] / 255
    return cover


@cache
def _texture(texture: str, radius: int) -> NDArray[np.float32]:
    """Brightness within a thing: [2r + 1, 2r + 1, 1]. Stripes lie flat, four pixels apart; dots stand in a grid."""
    width = 2 * radius + 1
    rows, columns = np.indices((width, width))
    if texture == "striped":
        dark = rows % 4 < 2
    elif texture == "dotted":
        dark = (rows % 5 < 2) & (columns % 5 < 2)
    else:
        dark = np.zeros((width, width), bool)
    return np.where(dark, DARK, 1.0).astype(np.float32)[..., None]
