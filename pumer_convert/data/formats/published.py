"""PuMer's prepared JSON lines, for questions and for retrieval (for NLVR2 and SNLI-VE it uses the official files).

vqa: {"qid", "question", "img_id": "COCO_train2014_000000000009", "label": {"yes": 1, "no": 0.3}}, no label in test.
retrieval: {"item_id", "captions": [...], "img_id": "COCO_val2014_000000391895" or "1000092795"}, a line per image.
Its pictures lie in an LMDB file; here they are read from the folders that it was made of.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pumer_convert.data.formats.rows import read_rows
from pumer_convert.data.formats.snli_ve import FLICKR
from pumer_convert.data.formats.source import DataSource, Fields, field
from pumer_convert.data.formats.vqav2 import of_2017
from pumer_convert.data.picture_files import Pictures
from pumer_convert.data.sample import FilePicture, Sample
from pumer_convert.errors import InputError

KIND = "PuMer's prepared JSON lines"
TASKS = ("vqa", "retrieval")


def recognises(source: DataSource) -> bool:
    """Rows with an img_id, and a qid or captions."""
    first = source.first
    return "img_id" in first and (("qid" in first and "question" in first) or "captions" in first)


def read(source: DataSource, task: str, images: Path | None, split: str | None) -> Iterator[Sample | InputError]:
    """The samples, or what is wrong with a row. Raises InputError when the rows are of the other task."""
    if ("captions" in source.first) != (task == "retrieval"):
        raise InputError(f"{source.path}: its rows have {', '.join(source.first)}, which are not for {task}.")
    return read_rows(source, convert, task, images, split)


def convert(row: Fields, task: str, where: str, pictures: Pictures) -> Iterator[Sample]:
    """The samples of a row: one of a question, one per caption of an image."""
    image = str(field(row, "img_id", where, (str, int)))
    if task == "vqa":
        text = field(row, "question", where)
        number = str(field(row, "qid", where, (str, int)))
        yield Sample(number, (_picture(image, where, pictures),), text, _scores(row.get("label", ()), where), where)
        return
    captions = field(row, "captions", where, list)
    picture = _picture(image, where, pictures)
    for i, caption in enumerate(captions):
        if not isinstance(caption, str):
            raise InputError(f"{where}: captions[{i}] is not a text.")
        yield Sample(f"{row.get('item_id', image)}#{i}", (picture,), caption, image, where)


def _scores(label: Any, where: str) -> Any:
    if label == ():
        return ()
    if not isinstance(label, dict) or not all(isinstance(v, int | float) and 0 <= v <= 1 for v in label.values()):
        raise InputError(f"{where}: the field 'label' must give answers their scores from 0 to 1.")
    return label


def _picture(image: str, where: str, pictures: Pictures) -> FilePicture:
    parts = image.split("_")
    folders = (parts[1], "", f"images/{parts[1]}") if parts[0] == "COCO" and len(parts) > 2 else FLICKR
    # A bare img_id of some sets has its ending already.
    names = [image] if Path(image).suffix in (".jpg", ".jpeg", ".png") else [f"{image}.jpg", f"{image}.png"]
    found = [str(Path(folder) / name) for folder in folders for name in names]
    return pictures.find([*found, *(of_2017(names[0]) if parts[0] == "COCO" else ())], where)
