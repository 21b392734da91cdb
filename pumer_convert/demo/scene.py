"""What is in a scene of the demo's visual world: coloured things on a plain of 96x96 pixels."""

import hashlib
from dataclasses import dataclass
from random import Random

SIDE = 96
COLORS = ("red", "green", "blue", "yellow", "purple", "orange", "white")
SHAPES = ("circle", "square", "triangle", "star", "cross")
SIZES = ("small", "large")
TEXTURES = ("plain", "striped", "dotted")
VALUES = {"color": COLORS, "shape": SHAPES, "size": SIZES, "texture": TEXTURES}
RADII = {"small": (7, 8), "large": (11, 12)}
"""Half the width of a thing in pixels, by its size."""
SPLITS = {"test": (0,), "validation": (1,), "train": (2, 3, 4, 5, 6, 7)}
"""Which eighths of all fingerprints a split holds."""
MOST = 5


@dataclass(frozen=True)
class Thing:
    """One thing: its four attributes (by the names in VALUES), centre and radius in pixels."""

    color: str
    shape: str
    size: str
    texture: str
    x: int
    y: int
    radius: int

    def has(self, **attributes: str) -> bool:
        """Whether all of these attributes are the thing's."""
        return all(getattr(self, name) == value for name, value in attributes.items())


@dataclass(frozen=True)
class Scene:
    """Things, the back one first, and the seed of the background and of the shades."""

    things: tuple[Thing, ...]
    seed: int

    def matching(self, **attributes: str) -> list[Thing]:
        """The things that have all of these attributes."""
        return [thing for thing in self.things if thing.has(**attributes)]


def fingerprint(scene: Scene) -> int:
    """A number for the set of things in a scene, wherever they stand: 64 bits of a hash of their attributes.

    It decides the split, so no training scene has the same set of things as any test scene.
    """
    names = sorted(f"{thing.color} {thing.shape} {thing.size} {thing.texture}" for thing in scene.things)
    return int.from_bytes(hashlib.blake2b("|".join(names).encode(), digest_size=8).digest(), "big")


def split_of(scene: Scene) -> str:
    """The split that a scene belongs to."""
    eighth = fingerprint(scene) % 8
    return next(split for split, eighths in SPLITS.items() if eighth in eighths)


def make_scene(random: Random, split: str, least: int = 2, most: int = MOST) -> Scene:
    """A scene of `least` to `most` things that belongs to `split`."""
    while True:
        scene = _draw(random, random.randint(least, most))
        if scene is not None and split_of(scene) == split:
            return scene


def _draw(random: Random, count: int) -> Scene | None:
    """Any scene of `count` things; None when they found no room.

    In most scenes some of the things share one attribute: otherwise counts above one would be rare.
    """
    shared, alike = random.choice(("color", "color", "shape", "shape", "texture")), random.randint(0, count)
    value = random.choice(VALUES[shared])
    things: list[Thing] = []
    for i in range(count):
        attributes = {name: random.choice(values) for name, values in VALUES.items()}
        if i < alike:
            attributes[shared] = value
        radius = random.choice(RADII[attributes["size"]])
        place = _room(random, things, radius)
        if place is None:
            return None
        things.append(Thing(**attributes, x=place[0], y=place[1], radius=radius))
    random.shuffle(things)
    return Scene(tuple(things), random.getrandbits(32))


def _room(random: Random, things: list[Thing], radius: int) -> tuple[int, int] | None:
    """A centre where a thing overlaps the others a little at most: 0.8 of the summed radii apart."""
    for _ in range(20):
        x, y = random.randint(radius, SIDE - 1 - radius), random.randint(radius, SIDE - 1 - radius)
        if all((t.x - x) ** 2 + (t.y - y) ** 2 >= (0.8 * (t.radius + radius)) ** 2 for t in things):
            return x, y
    return None
