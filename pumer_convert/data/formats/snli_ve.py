"""SNLI-VE's snli_ve_train.jsonl, _dev and _test (necla-ml/SNLI-VE), with Flickr30k's pictures.

Fields used: pairID, Flickr30K_ID (Flikr30kID in early versions), sentence2 (the hypothesis), gold_label. Pictures
lie in flickr30k_images/ or flickr30k-images/ as <id>.jpg.
"""

from collections.abc import Iterator
from pathlib import Path

from pumer_convert.data.formats.rows import read_rows
from pumer_convert.data.formats.source import DataSource, Fields, field
from pumer_convert.data.picture_files import Pictures
from pumer_convert.data.sample import LABELS, Sample
from pumer_convert.errors import InputError, UnjudgedError

KIND = "SNLI-VE's own JSON lines"
TASKS = ("ve",)
FLICKR = ("flickr30k_images", "flickr30k-images", "", "flickr30k/flickr30k_images", "flickr30k_images/flickr30k_images")
"""Folders in which Flickr30k's pictures are found, as it is unpacked."""
_IMAGE = ("Flickr30K_ID", "Flikr30kID")


def recognises(source: DataSource) -> bool:
    """Rows with a gold_label and a hypothesis, on a picture of Flickr30k."""
    return {"gold_label", "sentence2"} <= source.first.keys() and any(name in source.first for name in _IMAGE)


def read(source: DataSource, task: str, images: Path | None, split: str | None) -> Iterator[Sample | InputError]:
    """The samples, or what is wrong with a row."""
    return read_rows(source, convert, task, images, split)


def convert(row: Fields, task: str, where: str, pictures: Pictures) -> Iterator[Sample]:
    """The sample of a row."""
    image = str(field(row, _IMAGE[1] if _IMAGE[1] in row else _IMAGE[0], where, (str, int))).removesuffix(".jpg")
    label = str(field(row, "gold_label", where)).strip().lower()
    if label == "-":
        raise UnjudgedError("gold_label '-', on which the annotators did not agree")
    if label not in LABELS:
        raise InputError(f"{where}: gold_label is one of {', '.join(LABELS)}, not '{label}'.")
    picture = pictures.find([str(Path(folder) / f"{image}.jpg") for folder in FLICKR], where)
    yield Sample(field(row, "pairID", where), (picture,), field(row, "sentence2", where), label, where)
