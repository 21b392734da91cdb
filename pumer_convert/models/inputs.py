"""What goes into a model, by name: text, and pictures of one size or as packed patches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt

from pumer_convert.errors import InputError

TEXT = ("input_ids", "attention_mask")
PIXELS = "pixel_values"
PATCHES, GRID = "patches", "patch_grid"
CHANNELS = 3


@dataclass(frozen=True)
class Port:
    """One input: its type and its shape, of numbers and of names of dynamic sides ("batch", "text", "patches")."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class PictureInput:
    """How a model takes its pictures.

    images   pictures of an example (2 for image pairs).
    patch    side of a patch, in pixels.
    size     (H, W) where all pictures have one size and go in as pixels; None where each keeps its shape: then they
             go in as patches, row by row and packed to the largest picture of the batch.
    fewest, usual, most
             patches of one picture: of the smallest, of a square one, and of the largest. None as `most`: no limit.
    limit    the most patches that the model takes from whoever hands over more than its processor makes; None: any.
    """

    images: int
    patch: int
    size: tuple[int, int] | None
    fewest: int
    usual: int
    most: int | None
    limit: int | None = None

    @classmethod
    def fixed(cls, images: int, patch: int, size: tuple[int, int]) -> "PictureInput":
        """Pictures of one size."""
        count = (size[0] // patch) * (size[1] // patch)
        return cls(images, patch, size, count, count, count)

    @property
    def packed(self) -> bool:
        """Whether pictures go in as patches."""
        return self.size is None

    @property
    def nominal(self) -> tuple[int, int]:
        """(H, W) of the one size, or of a square picture."""
        side = isqrt(self.usual) * self.patch
        return self.size or (side, side)

    @property
    def ports(self) -> tuple[Port, ...]:
        """All inputs of the model, in their order."""
        pair: tuple[int, ...] = (self.images,) if self.images > 1 else ()
        text = tuple(Port(name, "int64", ("batch", "text")) for name in TEXT)
        if self.size is not None:
            return (*text, Port(PIXELS, "float32", ("batch", *pair, CHANNELS, *self.size)))
        patches = Port(PATCHES, "float32", ("batch", *pair, "patches", CHANNELS * self.patch**2))
        return (*text, patches, Port(GRID, "int64", ("batch", *pair, 2)))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the pictures' inputs."""
        return tuple(port.name for port in self.ports[len(TEXT) :])

    @classmethod
    def of_shapes(
        cls, shapes: Mapping[str, Sequence[int | str]], patch: int = 1, limit: int | None = None
    ) -> "PictureInput":
        """Of a graph's inputs, name -> shape; `patch` where they are pixels, which do not tell it. The graph does not
        know the largest picture, nor a `limit`. Raises InputError for inputs that are not ours."""
        names = tuple(shapes)
        try:
            if set(names) == {*TEXT, PIXELS}:
                *pair, channels, height, width = (int(side) for side in shapes[PIXELS][1:])
                if channels == CHANNELS:
                    return cls.fixed(pair[0] if pair else 1, patch, (height, width))
            elif set(names) == {*TEXT, PATCHES, GRID}:
                *images, _, values = shapes[PATCHES][1:]
                side = round((int(values) / CHANNELS) ** 0.5)
                if CHANNELS * side**2 == int(values):
                    return cls(int(images[0]) if images else 1, side, None, 1, 1, None, limit)
        except (ValueError, TypeError):
            pass
        raise InputError(f"its inputs are {', '.join(sorted(names))}; it was not exported by pumer-convert.")
