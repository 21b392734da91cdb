"""POPE's questions (Li et al., EMNLP 2023), such as coco_pope_random.json, with COCO's pictures of 2014.

JSON lines, whatever the file's ending: {"question_id": 1, "image": "COCO_val2014_000000310196.jpg", "text": "Is there a
snowboard in the image?", "label": "yes"}. Pictures lie in val2014/, or as COCO is downloaded today.
"""

from collections.abc import Iterator
from pathlib import Path

from pumer_convert.data.formats.rows import read_rows
from pumer_convert.data.formats.source import DataSource, Fields, field
from pumer_convert.data.formats.vqav2 import of_2017
from pumer_convert.data.picture_files import Pictures
from pumer_convert.data.sample import Sample
from pumer_convert.errors import InputError

KIND = "POPE's own questions"
TASKS = ("pope",)


def recognises(source: DataSource) -> bool:
    """Rows of a question on a picture whose label is yes or no."""
    first = source.first
    return {"question_id", "image", "text", "label"} <= first.keys() and str(first["label"]).lower() in ("yes", "no")


def read(source: DataSource, task: str, images: Path | None, split: str | None) -> Iterator[Sample | InputError]:
    """The samples, or what is wrong with a row."""
    return read_rows(source, _sample, task, images, split)


def _sample(row: Fields, task: str, where: str, pictures: Pictures) -> Iterator[Sample]:
    number, image = str(field(row, "question_id", where, (int, str))), field(row, "image", where)
    year = "val2014/" if "_val2014_" in image else "train2014/" if "_train2014_" in image else ""
    picture = pictures.find([image, f"{year}{image}", f"images/{year}{image}", *of_2017(image)], where)
    label = str(field(row, "label", where)).lower()
    if label not in ("yes", "no"):
        raise InputError(f"{where}: the label of pope is yes or no, not '{label}'.")
    yield Sample(number, (picture,), field(row, "text", where), label, where)
