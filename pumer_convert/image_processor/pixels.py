"""A picture as the model wants it: the arithmetic of transformers' PIL image processors, with numpy and PIL alone.

Nothing of this project is imported here: `export --triton` copies the file into what it writes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MOST = 1 << 28
"""Pixels that a picture may be resized to."""


@dataclass(frozen=True)
class ImageSettings:
    """How pixels are made; data/image.py reads it from a checkpoint's files.

    `fit` says what comes out:

    shape     as high and wide as the picture is, resized or not: ViLT's processor, and any that does not crop
    squash    `size` (height, width), to which the picture is stretched
    crop      `size`, cut out of the middle of the resized picture; zeros where that is smaller

    Under "shape" and "crop" the picture is resized until its shorter side is `shorter`, and not at all when that is
    None. With `divisor` ViLT's rule holds: the longer side is at most `longer`, and both are rounded down to multiples
    of `divisor`. Without, the longer side follows and is rounded down; past `longer` both shrink. A "crop" may take
    other ways: the picture is `stretched` to (height, width), or `covers` the size and no more. `rounded` cuts where
    torchvision does when the rest is odd, half a pixel rounded to even; else rounded down.

    Before all of this the one colour that stands for transparency, if the picture names it, becomes white (`on_white`),
    and a picture that is `padded` is made a square, filled up on both sides with that colour.

    Idefics3's pictures become tiles of the size under "squash". Each is resized before: until its longer side is
    `longest`, the other even, or else `stretched`. Then it is squashed to one tile; or, with `tiles`, cut into as many
    as cover it, see tiles.py. LLaVA-OneVision's stand whole and squashed before the tiles of that of the `pinpoints`
    (height, width) that fits them best.

    `filter` is PIL's number of the resampling filter (2 bilinear, 3 bicubic); `scale`, `mean` and `std` make floats
    of bytes, a channel each: (byte * scale - mean) / std.
    """

    fit: str
    size: tuple[int, int] | None = None
    shorter: int | None = None
    longer: int | None = None
    divisor: int | None = None
    stretched: tuple[int, int] | None = None
    covers: bool = False
    longest: int | None = None
    tiles: bool = False
    pinpoints: tuple[tuple[int, int], ...] = ()
    rounded: bool = False
    padded: tuple[int, int, int] | None = None
    on_white: bool = False
    filter: int = 3
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    @property
    def uncut(self) -> str:
        """What to do in the processor's file for pictures that are not cut into tiles."""
        return (
            "name a class in image_processor_type that does not" if self.pinpoints else "say do_image_splitting false"
        )

    def before(self, height: int, width: int) -> tuple[int, int]:
        """What a picture of (height, width) that becomes tiles is resized to first."""
        if self.longest is None:
            return self.stretched or (height, width)
        # Step by step as transformers computes it.
        share, most = width / height, 4096
        if width >= height:
            width, height = self.longest, int(self.longest / share)
            height += height % 2
        else:
            height, width = self.longest, int(self.longest * share)
            width += width % 2
        height, width = max(height, 1), max(width, 1)
        share = width / height
        if width >= height and width > most:
            height, width = int(most / share), most
        elif height > width and height > most:
            height, width = most, int(most * share)
        return max(height, 1), max(width, 1)

    def largest(self) -> tuple[int, int] | None:
        """Under "shape" the most that the (shorter, longer) side of what comes out can be; None without a limit."""
        if self.fit != "shape" or self.shorter is None or self.longer is None:
            return None
        step = self.divisor or 1
        return min(self.shorter, self.longer) // step * step, self.longer // step * step

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """What a picture of (height, width) is resized to. Raises ValueError for one too thin for that."""
        new = self._resized(height, width)
        if min(new) < 1 or new[0] * new[1] > MOST:
            raise ValueError(f"{width}x{height} pixels are too thin, they would be resized to {new[1]}x{new[0]}")
        return new

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if self.fit == "squash" and self.size is not None:
            return self.size
        if self.covers and self.size is not None:
            factor = max(self.size[0] / height, self.size[1] / width)
            # Never so far down that the crop reaches beyond the picture.
            return max(int(height * factor), self.size[0]), max(int(width * factor), self.size[1])
        if self.shorter is None:
            return self.stretched or (height, width)
        if self.divisor is not None:
            return self._as_vilt(height, width, self.shorter, self.divisor)
        short, long = float(min(height, width)), float(max(height, width))
        exact: float = self.shorter
        if self.longer is not None and long / short * self.shorter > self.longer:
            exact = self.longer * short / long
        least = round(exact)
        if least == short:
            return height, width
        if width < height:
            return int(exact * height / width), least
        return least, int(exact * width / height)

    def _as_vilt(self, height: int, width: int, shorter: int, divisor: int) -> tuple[int, int]:
        # Step by step as ViLT computes it, for another order rounds otherwise.
        factor = shorter / min(height, width)
        new: tuple[float, float]
        new = (shorter, factor * width) if height < width else (factor * height, shorter)
        if self.longer is not None and max(new) > self.longer:
            factor = self.longer / max(new)
            new = (factor * new[0], factor * new[1])
        return int(new[0] + 0.5) // divisor * divisor, int(new[1] + 0.5) // divisor * divisor


def to_pixels(image: Image.Image, settings: ImageSettings) -> NDArray[np.float32]:
    """The picture as float32 [3, H, W]: `settings.size`, or under "shape" what the picture becomes.

    Raises ValueError for a picture that is too thin.
    """
    if settings.tiles:
        raise ValueError(f"the processor cuts pictures into tiles, and here each is one; {settings.uncut}")
    image = on_white(image, settings)
    if settings.padded is not None and image.width != image.height:
        side = max(image.size)
        square = Image.new("RGB", (side, side), tuple(settings.padded))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        image = square
    if settings.fit == "squash":
        image = resize(image, settings.before(image.height, image.width), settings)
    image = resize(image, settings.resized(image.height, image.width), settings)
    height, width = image.height, image.width
    if settings.fit == "crop" and settings.size is not None:
        tall, wide = settings.size
        top, left = ((a - b) // 2 for a, b in ((height, tall), (width, wide)))
        if settings.rounded:
            top, left = round((height - tall) / 2), round((width - wide) / 2)
        image = image.crop((left, top, left + wide, top + tall))
    return normalised(image, settings)


def on_white(image: Image.Image, settings: ImageSettings) -> Image.Image:
    """The picture as RGB, white where the settings want that."""
    image = image if image.mode == "RGB" else image.convert("RGB")
    if settings.on_white and isinstance(colour := image.info.get("transparency"), tuple):
        seen = np.asarray(image)
        image = Image.fromarray(np.where((seen == np.array(colour)).all(-1, keepdims=True), np.uint8(255), seen))
    return image


def resize(image: Image.Image, size: tuple[int, int], settings: ImageSettings) -> Image.Image:
    """The picture resized to (height, width)."""
    if image.size == size[::-1]:
        return image
    return image.resize(size[::-1], Image.Resampling(settings.filter))


def normalised(image: Image.Image, settings: ImageSettings) -> NDArray[np.float32]:
    """The pixels of an RGB picture as float32 [3, H, W]."""
    # What each byte becomes, once for all of them.
    levels = np.arange(256, dtype=np.float32) * np.float32(settings.scale)
    mean, std = (np.asarray(v, np.float32)[:, None] for v in (settings.mean, settings.std))
    table = (levels - mean) / std
    values = np.asarray(image)
    return np.stack([table[channel][values[..., channel]] for channel in range(3)])
