"""Finding the picture files of a data set, and seeing whether they are whole."""

import os
import unicodedata
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from pumer_convert.data.sample import FilePicture, ShardPicture
from pumer_convert.errors import InputError
from pumer_convert.image_processor.open_picture import picture_format
from pumer_convert.system.paths import there

CHECKS = ("exists", "quick", "decode")
DEPTH = 3
"""Levels of folders that are searched for pictures which do not lie as named."""
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}


class Pictures:
    """The pictures below some folders, found by one of several relative names.

    Where none lies as named, one is taken that lies deeper below the folders under that whole name, if it is the only
    one; letters may be upper or lower case there (.JPG), and accents composed or not. Backslashes are Windows' slashes.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = tuple(dict.fromkeys(roots))
        self._found: dict[tuple[str, ...], FilePicture | None] = {}

    def find(self, names: Sequence[str], where: str) -> FilePicture:
        """The first file there is of the names, in the order of the folders. Raises InputError that begins `where`."""
        key = tuple(names)
        if key not in self._found:
            slashed = [name.replace("\\", "/") for name in names]
            paths = (root / name for root in self.roots for name in dict.fromkeys((*names, *slashed)))
            direct = next((FilePicture(path) for path in paths if there(path) and path.is_file()), None)
            self._found[key] = direct or self._deeper(slashed, where)
        found = self._found[key]
        if found is None:
            raise InputError(
                f"{where}: there is no picture {names[0][:200]} below {' or '.join(map(str, self.roots))}; "
                "say where the pictures are (images)."
            )
        return found

    def _deeper(self, names: Sequence[str], where: str) -> FilePicture | None:
        for name in names:
            wanted = _folded(name)
            fits = [
                path for path in self._below.get(wanted[-1], ()) if _folded(path.as_posix())[-len(wanted) :] == wanted
            ]
            if len(fits) > 1:
                raise InputError(
                    f"{where}: the picture {name} may be {fits[0]} or {fits[1]}; name its folder (images)."
                )
            if fits:
                return FilePicture(fits[0])
        return None

    @cached_property
    def _below(self) -> dict[str, list[Path]]:
        """The files in the first folder and `DEPTH` levels below it, by their folded names."""
        found: dict[str, list[Path]] = {}
        for place, folders, files in os.walk(self.roots[0], followlinks=True):
            if len(Path(place).relative_to(self.roots[0]).parts) >= DEPTH:
                folders.clear()
            for name in files:
                found.setdefault(_folded(name)[-1], []).append(Path(place, name))
        return found


def _folded(name: str) -> tuple[str, ...]:
    return PurePosixPath(unicodedata.normalize("NFC", name).casefold()).parts


def roots(source: Path, images: Path | None) -> tuple[Path, ...]:
    """Where the pictures of the data at `source` may lie: `images` if given, else beside it and in `images` there.

    Raises InputError when `images` is no folder.
    """
    if images is not None:
        if images.is_file():
            raise InputError(f"{images}: a file, and no folder of pictures; unpack it and name what was in it.")
        if not images.is_dir():
            raise InputError(f"{images}: there is no such folder of pictures.")
        return (images,)
    folder = source if source.is_dir() else source.parent
    return folder, folder / "images", folder.parent, folder.parent / "images"


def check_picture(picture: FilePicture | ShardPicture, check: str) -> str | None:
    """What is wrong with a picture, in a sentence, or None; `check` is one of `CHECKS`."""
    if isinstance(picture, FilePicture) and not picture.path.is_file():
        return f"there is no picture {picture.path}."
    if check == "exists":
        return None
    try:
        if check != "quick" or not _looks_whole(picture):
            picture.open()
    except InputError as error:
        return str(error)
    return None


def _looks_whole(picture: FilePicture | ShardPicture) -> bool:
    """Does the file begin and end as a JPEG or PNG does? A download that broke off is seen here without decoding."""
    path = picture.path
    source = path if isinstance(picture, FilePicture) else picture.content()
    try:
        end = _ENDS.get(picture_format(source, picture.max_pixels))
        if end is None:
            return False
        if isinstance(source, bytes):
            return end in source[-64:]
        with path.open("rb") as stream:
            stream.seek(-min(path.stat().st_size, 64), 2)
            return end in stream.read()
    except (OSError, ValueError):
        return False
