"""One example, whatever the file it came from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from pumer_convert.errors import InputError
from pumer_convert.image_processor.open_picture import MAX_PIXELS, PictureError, as_rgb, open_picture

LABELS = ("contradiction", "neutral", "entailment")
"""What visual entailment tells apart, in the order of the published checkpoints."""


class Picture(Protocol):
    """A picture that is opened only when it is needed, in a worker process: it must pickle."""

    @property
    def name(self) -> str:
        """What tells it from every other picture of the data; messages show it."""
        ...

    def open(self) -> Image.Image:
        """The picture as RGB."""
        ...


@dataclass(frozen=True)
class FilePicture:
    """A picture in a file, of at most `max_pixels`."""

    path: Path
    max_pixels: int = MAX_PIXELS

    @property
    def name(self) -> str:
        return str(self.path)

    def open(self) -> Image.Image:
        """The picture, upright and RGB. Raises InputError naming the file when it cannot be used."""
        try:
            return open_picture(self.path, self.max_pixels)
        except PictureError as error:
            raise InputError(f"{self.name}: {error}.") from None


@dataclass(frozen=True)
class ShardPicture:
    """A picture in a tar that is not compressed: the `size` bytes from `start` on, which are its file `member`."""

    path: Path
    member: str
    start: int
    size: int
    max_pixels: int = MAX_PIXELS

    @property
    def name(self) -> str:
        return f"{self.path}:{self.member}"

    def content(self) -> bytes:
        """The bytes of its file. Raises InputError where the tar ends before."""
        try:
            with self.path.open("rb") as shard:
                shard.seek(self.start)
                found = shard.read(self.size)
        except OSError as error:
            raise InputError(f"{self.name}: cannot be read ({error.strerror or error}).") from None
        if len(found) < self.size:
            raise InputError(f"{self.name}: the tar ends within it.")
        return found

    def open(self) -> Image.Image:
        """The picture, upright and RGB. Raises InputError naming tar and file when it cannot be used."""
        try:
            return open_picture(self.content(), self.max_pixels)
        except PictureError as error:
            raise InputError(f"{self.name}: {error}.") from None


@dataclass(frozen=True)
class CellPicture:
    """A picture in a cell of a table; `place` is its number where the cell is a list."""

    name: str
    table: Any
    row: int
    column: str
    place: int | None = None
    max_pixels: int = MAX_PIXELS

    def open(self) -> Image.Image:
        """The picture, upright and RGB. Raises InputError naming the cell when it cannot be used."""
        try:
            value = self.table[self.row][self.column]
            value = value if self.place is None else value[self.place]
        except Exception as error:  # the table's package decodes, with whatever a decoder raises
            raise InputError(f"{self.name}: the picture cannot be read ({type(error).__name__}: {error}).") from None
        try:
            if isinstance(value, Image.Image):
                return as_rgb(value, self.max_pixels)
            given = value.get("bytes") or value.get("path") if isinstance(value, dict) else None
            if given is None:
                raise PictureError("there is no picture")
            return open_picture(given, self.max_pixels)
        except PictureError as error:
            raise InputError(f"{self.name}: {error}.") from None


@dataclass(frozen=True)
class Sample:
    """One example. `where` is the place it came from: "file:line", or "file:list[i]" inside one JSON document.

    `pictures` are one, or two for nlvr2. `target` by task:

    vqa         tuple[str, ...]: the answers of the humans, ten or fewer, () when they are not given; or
                Mapping[str, float]: ready scores from 0 to 1
    nlvr2       bool: is the sentence true of the pair
    ve          one of `LABELS`
    pope        "yes" or "no"
    retrieval   str: the identity of the image that the caption belongs to
    zero_shot   str: the class of the picture; there is no text
    pictures    None; there is no text
    """

    id: str
    pictures: tuple[Picture, ...]
    text: str
    target: Any
    where: str


def fault_of_text(text: Any) -> str:
    """Why something is no text that can be tokenized, as a sentence; "" when it is one."""
    if not isinstance(text, str):
        return f"a text is a string, not {type(text).__name__}."
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return f"the text {text[:40]!r} is no valid Unicode; it holds half of a surrogate pair."
    return ""
