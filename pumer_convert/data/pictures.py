"""Finding the picture files of a data set, and seeing whether they are whole."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from pumer_convert.data.sample import FilePicture
from pumer_convert.errors import InputError

CHECKS = ("exists", "quick", "decode")
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}


class Pictures:
    """The pictures below some folders, found by one of several relative names."""

    def __init__(self, roots: Iterable[Path]) -> None:
        self.roots = tuple(dict.fromkeys(roots))
        self._found: dict[tuple[str, ...], FilePicture | None] = {}

    def find(self, names: Sequence[str], where: str) -> FilePicture:
        """The first file there is of the names, in the order of the folders. Raises InputError that begins `where`."""
        key = tuple(names)
        if key not in self._found:
            paths = (root / name for root in self.roots for name in names)
            self._found[key] = next((FilePicture(path) for path in paths if path.is_file()), None)
        found = self._found[key]
        if found is None:
            raise InputError(
                f"{where}: there is no picture {names[0]} below {' or '.join(map(str, self.roots))}; "
                "say where the pictures are (images)."
            )
        return found


def roots(source: Path, images: Path | None) -> tuple[Path, ...]:
    """Where the pictures of the data at `source` may lie: `images` if given, else beside it and in `images` there.

    Raises InputError when `images` is no folder.
    """
    if images is not None:
        if not images.is_dir():
            raise InputError(f"{images}: there is no such folder of pictures.")
        return (images,)
    folder = source if source.is_dir() else source.parent
    return folder, folder / "images", folder.parent, folder.parent / "images"


def check_picture(picture: FilePicture, check: str) -> str | None:
    """What is wrong with a picture, in a sentence, or None; `check` is one of `CHECKS`."""
    path = picture.path
    if not path.is_file():
        return f"there is no picture {path}."
    if check == "exists" or (check == "quick" and _looks_whole(path)):
        return None
    try:
        picture.open()
    except InputError as error:
        return str(error)
    return None


def _looks_whole(path: Path) -> bool:
    """Does the file begin and end as a JPEG or PNG does? A download that broke off is seen here without decoding."""
    try:
        with Image.open(path) as image:
            end = _ENDS.get(image.format or "")
        if end is None:
            return False
        with path.open("rb") as stream:
            stream.seek(-min(path.stat().st_size, 64), 2)
            return end in stream.read()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
