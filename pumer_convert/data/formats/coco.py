"""COCO's captions as they are downloaded (cocodataset.org): captions_val2017.json, captions_train2014.json.

One JSON document, for retrieval: images: [{id, file_name}] and annotations: [{id, image_id, caption}]. Pictures are
val2017/<file_name>, beside the document or, as COCO is unpacked, beside its folder `annotations`. Each split has a file
of its own.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pumer_convert.data.formats.source import DataSource, Fields, field
from pumer_convert.data.formats.vqav2 import of_2017
from pumer_convert.data.picture_files import Pictures, roots
from pumer_convert.data.sample import Sample
from pumer_convert.errors import InputError

KIND = "COCO's own captions"
TASKS = ("retrieval",)


def recognises(source: DataSource) -> bool:
    """A document with images and annotations that are captions."""
    images, rows = source.document.get("images"), source.document.get("annotations")
    first = rows[0] if isinstance(rows, list) and rows else None
    return isinstance(images, list) and isinstance(first, dict) and {"image_id", "caption"} <= first.keys()


def read(source: DataSource, task: str, images: Path | None, split: str | None) -> Iterator[Sample | InputError]:
    """A sample per caption, or what is wrong with it. Raises InputError when a split is asked for."""
    if split is not None:
        raise InputError(f"{source.path}: COCO has a file of captions for each split; give that of '{split}'.")
    shown = {row.get("id"): row for row in source.document["images"] if isinstance(row, dict)}
    pictures = Pictures(roots(source.path, images))
    for number, row in enumerate(source.document["annotations"]):
        where = f"{source.path}:annotations[{number}]"
        try:
            yield _sample(row, shown, source.path.stem, where, pictures)
        except InputError as error:
            yield error


def _sample(row: Any, shown: dict[Any, Fields], stem: str, where: str, pictures: Pictures) -> Sample:
    if not isinstance(row, dict):
        raise InputError(f"{where}: not a JSON object.")
    image = field(row, "image_id", where, (int, str))
    if image not in shown:
        raise InputError(f"{where}: there is no image {image} in the document.")
    file = field(shown[image], "file_name", where)
    folder = stem.rsplit("_", 1)[-1]
    names = [f"{folder}/{file}", file, f"images/{folder}/{file}", *(of_2017(file) if file.startswith("COCO_") else ())]
    text = field(row, "caption", where).strip()
    number = str(field(row, "id", where, (int, str)))
    return Sample(number, (pictures.find(names, where),), text, str(image), where)
