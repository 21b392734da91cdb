"""Pictures as they lie on disks: opened, turned upright and made RGB, or refused in a sentence.

Nothing of this project is imported here: `export --triton` copies the file into what it writes.
"""

import io
import re
import struct
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image

MAX_PIXELS = 178_956_970
"""The largest picture that is decoded unless told otherwise: where PIL too sees an attack (0.5 GB as RGB)."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its EXIF orientation. PIL's own exif_transpose writes the block anew besides, and
fails where that is broken."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/|data:", re.IGNORECASE)
_DOWNLOAD = "it is an address, and pictures are read from files; download it first"
_OTHERS = (
    (re.compile(rb"version https://git-lfs"), "it is a Git LFS pointer, not the picture; fetch it with `git lfs pull`"),
    (re.compile(rb"....ftyp(hei|hev|mif1|msf1)", re.DOTALL), "it is HEIC, as telephones write; save it as JPEG or PNG"),
    (re.compile(rb"....ftypavi", re.DOTALL), "it is AVIF, which the PIL that is here does not read or finds broken"),
    (re.compile(rb"....ftyp", re.DOTALL), "it is a video; save one of its pictures as JPEG or PNG"),
    (re.compile(rb"%PDF"), "it is a PDF; save its page as JPEG or PNG"),
    (
        re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!doctype svg[^>]*>\s*)?<svg", re.I | re.DOTALL),
        "it is SVG, which has no pixels; save it as PNG",
    ),
    (re.compile(rb"\s*<(!doctype html|html)", re.IGNORECASE), "it is a web page; download the picture itself"),
    (re.compile(rb"\x1f\x8b|PK\x03\x04"), "it is compressed; unpack it first"),
    (re.compile(rb"\x93NUMPY"), "it is an array of numpy; save it as PNG"),
)
"""What is often given as a picture and is none that PIL reads, by its first bytes."""


class PictureError(ValueError):
    """A picture that cannot be used: what is wrong, to be put after its name."""


def open_picture(source: Path | str | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture in a file, or in the bytes of one, as RGB, the way `as_rgb` makes it; of several the first.

    Raises PictureError for what is no picture, broken, or of more than `max_pixels`.
    """
    with _stream(source) as stream:
        return as_rgb(_header(stream, max_pixels), max_pixels)


def picture_format(source: Path | str | bytes, max_pixels: int = MAX_PIXELS) -> str:
    """PIL's name of the format of a picture, from its header alone. Raises PictureError as `open_picture` does."""
    with _stream(source) as stream:
        return _header(stream, max_pixels).format or ""


def as_rgb(image: Image.Image, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """A PIL image as transformers' load_image gives it: turned as its EXIF orientation says, and RGB.

    Transparency is dropped, not laid on a colour; `info["transparency"]` says which colour stood for it, where one did.
    Unlike PIL, which clips, grey of 16 bits becomes its upper 8; whole numbers of 32 bits are 16-bit grey where any is
    above 255, else 8-bit; floats are 0 to 1, or 0 to 255 where any is above 1. Raises PictureError for other values,
    more than `max_pixels`, and what a decoder refuses.
    """
    _check_size(image, max_pixels)
    try:
        image.load()
        kind = image.format
        if (turn := _TURNS.get(_orientation(image))) is not None:
            image = image.transpose(turn)
        if isinstance(image.info.get("transparency"), bytes):  # PIL would warn of what RGB loses
            image = image.copy()
            del image.info["transparency"]
        made = _eight_bits(image, kind).convert("RGB")
        colour = made.info.get("transparency")
        made.info.clear()  # else its orientation would turn it once more
        if isinstance(colour, tuple):
            made.info["transparency"] = colour
        return made
    except PictureError:
        raise
    except Exception as error:  # a decoder raises whatever it likes at broken bytes
        raise _broken(error) from None


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a broken EXIF block says nothing of the picture, which is whole
        return 1


def _eight_bits(image: Image.Image, kind: str | None) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode not in ("I", "F"):
        return image
    values = np.asarray(image)
    least, most = float(values.min()), float(values.max())
    if not (least >= 0 and most <= (65535 if image.mode == "I" else 255)):  # not a number is neither
        raise PictureError(
            f"its pixels are numbers from {least:g} to {most:g}, which are no grey of 8 or 16 bits; save it as one"
        )
    if image.mode == "F":
        return Image.fromarray((np.rint(values * 255) if most <= 1 else values).astype(np.uint8))
    # An older PIL and its PGM reader give 16-bit grey as 32-bit numbers, of dark pictures too.
    wide = most > 255 or kind in ("PNG", "PPM")
    return Image.fromarray((values >> 8 if wide else values).astype(np.uint8))


def _stream(source: Path | str | bytes) -> IO[bytes]:
    if isinstance(source, bytes):
        stream: IO[bytes] = io.BytesIO(source)
        empty = not source
    else:
        try:
            path = Path(source)
            if path.is_dir():
                raise PictureError("it is a folder, not a picture")
            if not path.exists():
                if _ADDRESS.match(str(source)):
                    raise PictureError(_DOWNLOAD)
                raise PictureError("there is no such picture")
            if not path.is_file():
                raise PictureError("it is not a file that can be read as a picture")
            empty = path.stat().st_size == 0
            stream = path.open("rb")
        except OSError as error:
            if _ADDRESS.match(str(source)):  # too long for the name of a file
                raise PictureError(_DOWNLOAD) from None
            raise PictureError(f"the picture cannot be read ({error.strerror or error})") from None
        except ValueError as error:
            if isinstance(error, PictureError):
                raise
            raise PictureError(f"the picture cannot be read ({error})") from None
    if empty:
        stream.close()
        raise PictureError("the picture cannot be read (it is a file of 0 bytes)")
    return stream


def _header(stream: IO[bytes], max_pixels: int) -> Image.Image:
    """The picture in a file, not yet decoded.

    As PIL's own `open` finds it, whose limit is one for the whole process and a warning below that.
    """
    prefix = stream.read(16)
    tried: set[str] = set()
    for load_formats in (Image.preinit, Image.init):
        load_formats()
        for name in [name for name in Image.ID if name not in tried]:
            tried.add(name)
            make, accepts = Image.OPEN[name]
            try:
                found = accepts is None or accepts(prefix)
                if isinstance(found, str) or not found:
                    continue
                stream.seek(0)
                image = make(stream, "")
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue  # another format's
            except Exception as error:  # a decoder raises whatever it likes at broken bytes
                raise _broken(error) from None
            _check_size(image, max_pixels)
            return image
    stream.seek(0)
    first = stream.read(512)
    what = next((what for begin, what in _OTHERS if begin.match(first)), None)
    raise PictureError(
        f"the picture cannot be read ({what or 'it is of no format that is known, or its beginning is broken'})"
    )


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise PictureError(f"a picture of {width}x{height} pixels holds nothing")
    if width * height > max_pixels:
        raise PictureError(
            f"a picture of {width}x{height} pixels is larger than the limit of {max_pixels} (max_pixels, "
            "--max-pixels); make it smaller, or raise the limit if you trust it"
        )


def _broken(error: Exception) -> PictureError:
    words = " ".join(str(error).split()) or "no reason given"
    return PictureError(f"the picture cannot be read ({type(error).__name__}: {words[:200]})")
