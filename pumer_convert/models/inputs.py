"""What goes into a model, by name: text, and pictures of one size or as packed patches."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any

IDS, MASK = "input_ids", "attention_mask"
PIXELS = "pixel_values"
PATCHES, GRID = "patches", "patch_grid"
CHANNELS = 3
SHORTEST = 2
"""Tokens of the shortest text, an empty one: where it begins and where it ends. Fewer cannot be reduced in a graph."""


@dataclass(frozen=True)
class Port:
    """One input or output: its type and its shape, of numbers and of names of dynamic sides ("batch", "text",
    "patches")."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def sized(self, sides: Mapping[str, int]) -> tuple[int, ...]:
        """Its shape with the dynamic sides as they are."""
        return tuple(sides[side] if isinstance(side, str) else side for side in self.shape)


@dataclass(frozen=True)
class TextInput:
    """What texts a model takes: ids below `vocabulary` and at most `longest` tokens (None: nobody tells).

    pad_id   the id of padding, None where the model's config names none.
    length   every text has exactly that many places, padding included; None: any number.
    masked   whether a mask tells padding; else padding is seen like any other token, as SigLIP was trained.
    padding  the side on which shorter texts of a batch are filled up: "right" or "left".
    end_id   the id at whose first place a text is read, which every text has to hold; None: it is read elsewhere.
    """

    vocabulary: int | None = None
    longest: int | None = None
    pad_id: int | None = None
    length: int | None = None
    masked: bool = True
    padding: str = "right"
    end_id: int | None = None

    @classmethod
    def of_sidecar(cls, values: Mapping[str, Any]) -> "TextInput | None":
        """As the sidecar of an exported file tells them; None for a graph that takes none. Version 0.1 wrote no size of
        the vocabulary, and knew one way alone to take a text."""
        if (text := values.get("text")) is None:
            return None
        return cls(
            vocabulary=text.get("vocab_size"),
            longest=text.get("longest"),
            pad_id=text.get("pad_token_id"),
            length=text.get("length"),
            masked=text.get("masked", True),
            padding=text.get("padding", "right"),
            end_id=text.get("end_token_id"),
        )

    def to_sidecar(self) -> dict[str, Any]:
        """What a sidecar tells of them; version 0.1 wrote the first three."""
        names = {"longest": self.longest, "vocab_size": self.vocabulary, "pad_token_id": self.pad_id}
        how = {"length": self.length, "masked": self.masked, "padding": self.padding}
        return {**names, **how, **({} if self.end_id is None else {"end_token_id": self.end_id})}

    @property
    def ports(self) -> tuple[Port, ...]:
        """The inputs that hold text."""
        shape = ("batch", "text" if self.length is None else self.length)
        return tuple(Port(name, "int64", shape) for name in ((IDS, MASK) if self.masked else (IDS,)))


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

    @classmethod
    def of_sidecar(cls, values: Mapping[str, Any]) -> "PictureInput | None":
        """As the sidecar of an exported file tells them; None for a graph that takes none. Version 0.1 knew one size
        alone."""
        if "pictures" not in values:
            height, width = values["image_size"]
            return cls.fixed(2 if values["task"] == "nlvr2" else 1, 1, (int(height), int(width)))
        if (pictures := values["pictures"]) is None:
            return None
        size = pictures["size"]
        numbers = {name: pictures[name] for name in ("images", "patch", "fewest", "usual", "most")}
        limit = pictures.get("limit")
        return cls(size=None if size is None else (int(size[0]), int(size[1])), **numbers, limit=limit)

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
        """The inputs that hold pictures."""
        pair: tuple[int, ...] = (self.images,) if self.images > 1 else ()
        if self.size is not None:
            return (Port(PIXELS, "float32", ("batch", *pair, CHANNELS, *self.size)),)
        patches = Port(PATCHES, "float32", ("batch", *pair, "patches", CHANNELS * self.patch**2))
        return (patches, Port(GRID, "int64", ("batch", *pair, 2)))
