"""Pictures in folders by class, as ImageNet and its like lie on disks (torchvision's ImageFolder), for zero_shot.

<root>/<class>/**/<picture>, or <root>/<split>/<class>/**/<picture>. The name of the folder is the class; a file of
classes says what it is called in texts ("n02123045<tab>tabby"). Files that are no pictures by their names are left.
"""

from collections.abc import Iterator
from pathlib import Path

from pumer_convert.data.formats.source import DataSource
from pumer_convert.data.sample import FilePicture, Sample
from pumer_convert.errors import InputError, nearest

KIND = "pictures in folders by class"
TASKS = ("zero_shot",)
SPLITS = ("train", "val", "validation", "valid", "test")
ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")


def recognises(source: DataSource) -> bool:
    """A folder of two folders with pictures or more, or of splits of such folders."""
    if not source.is_folder:
        return False
    folders = [folder for folder in _folders(source.path) if any(map(is_picture, folder.rglob("*")))]
    return len(folders) > 1 or any(folder.name in SPLITS for folder in folders)


def read(source: DataSource, task: str, images: Path | None, split: str | None) -> Iterator[Sample | InputError]:
    """A sample for each picture, or what is wrong with a folder. Raises InputError for a split that is not there."""
    if images is not None:
        raise InputError(f"{source.path}: its folders hold the pictures themselves; leave the folder of pictures out.")
    root = of_split(source.path, split)
    for folder in _folders(root):
        found = [file for file in sorted(folder.rglob("*")) if is_picture(file)]
        if not found:
            yield InputError(f"{folder}: there is no picture in this folder of a class.")
        for file in found:
            yield Sample(file.relative_to(root).as_posix(), (FilePicture(file),), "", folder.name, str(folder))


def of_split(path: Path, split: str | None) -> Path:
    """The folder of a split, or `path` itself where it has none. Raises InputError for one that is not there."""
    names = [folder.name for folder in _folders(path)]
    splits = names if set(names) <= set(SPLITS) else []
    if split is None and splits:
        raise InputError(f"{path}: say which split; it has {', '.join(splits)}.")
    if split is not None and split not in splits:
        there = f"it has {', '.join(splits)}" if splits else "its folders are classes, of no split"
        raise InputError(f"{path}: there is no split '{split}'; {there}.{nearest(split, splits)}")
    return path if split is None else path / split


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def is_picture(file: Path) -> bool:
    """Whether a file is a picture by its name."""
    return file.suffix.lower() in ENDINGS and not file.name.startswith(".") and file.is_file()
