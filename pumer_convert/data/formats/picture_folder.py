"""Pictures alone, in a folder and those below it, whatever these are called; folders by split are told apart."""

from collections.abc import Iterator
from pathlib import Path

from pumer_convert.data.formats.class_folders import is_picture, of_split
from pumer_convert.data.formats.source import DataSource
from pumer_convert.data.sample import FilePicture, Sample
from pumer_convert.errors import InputError

KIND = "a folder of pictures"
TASKS = ("pictures",)


def recognises(source: DataSource) -> bool:
    """A folder with a picture in it or below it."""
    return source.is_folder and any(map(is_picture, source.path.rglob("*")))


def read(source: DataSource, task: str, images: Path | None, split: str | None) -> Iterator[Sample]:
    """A sample for each picture. Raises InputError for a split that is not there, another folder of pictures, and tars
    beside the pictures, which may be what was meant."""
    if images is not None:
        raise InputError(f"{source.path}: it holds the pictures itself; leave the folder of pictures out.")
    root = of_split(source.path, split)
    if (shard := next(root.glob("*.tar"), None)) is not None:
        raise InputError(f"{shard}: a tar beside pictures; name a folder that holds the ones or the others.")
    for file in sorted(root.rglob("*")):
        if is_picture(file):
            yield Sample(file.relative_to(root).as_posix(), (FilePicture(file),), "", None, str(file))
