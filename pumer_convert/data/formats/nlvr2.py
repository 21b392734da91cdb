"""NLVR2's train.json, dev.json and test1.json (lil-lab/nlvr), JSON lines, with the pictures as they are unpacked.

Fields used: identifier "dev-850-0-1" (split, set, pair, sentence), sentence, label "True" or "False", and in train
`directory`. Pictures dev-850-0-img0.png and -img1.png lie in images/train/<directory>/, dev/ and test1/.
"""

from collections.abc import Iterator
from pathlib import Path

from pumer_convert.data.formats.rows import read_rows
from pumer_convert.data.formats.source import DataSource, Fields, field
from pumer_convert.data.picture_files import Pictures
from pumer_convert.data.sample import Sample
from pumer_convert.errors import InputError

KIND = "NLVR2's own JSON lines"
TASKS = ("nlvr2",)
_TRUTH = {"true": True, "false": False}


def recognises(source: DataSource) -> bool:
    """Rows with an identifier and a sentence."""
    return {"identifier", "sentence"} <= source.first.keys()


def read(source: DataSource, task: str, images: Path | None, split: str | None) -> Iterator[Sample | InputError]:
    """The samples, or what is wrong with a row."""
    return read_rows(source, convert, task, images, split)


def convert(row: Fields, task: str, where: str, pictures: Pictures) -> Iterator[Sample]:
    """The sample of a row."""
    identifier = field(row, "identifier", where)
    sentence = field(row, "sentence", where)
    label = _TRUTH.get(str(field(row, "label", where, (str, bool))).lower())
    if label is None:
        raise InputError(f"{where}: the label of NLVR2 is True or False, not '{row['label']}'.")
    pair, split = identifier.rsplit("-", 1)[0], identifier.split("-", 1)[0]
    found = tuple(pictures.find(_names(f"{pair}-img{i}.png", split, row.get("directory")), where) for i in (0, 1))
    yield Sample(identifier, found, sentence, label, where)


def _names(file: str, split: str, directory: object) -> list[str]:
    folders = [f"images/{split}", split, f"images/{split}/{split}", ""]
    if directory is not None:
        folders = [f"images/{split}/{directory}", f"{split}/{directory}", str(directory), *folders]
    return [str(Path(folder) / file) for folder in folders]
