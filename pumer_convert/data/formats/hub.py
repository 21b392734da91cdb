"""A folder that the package `datasets` saved (save_to_disk): a Dataset, or a DatasetDict with a split to choose.

Its rows have the fields of the simple format or the originals' names for them, and their pictures in columns:
`image`; for pairs `images`, or two columns such as image_0 and image_1.
"""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pumer_convert.data.formats import simple
from pumer_convert.data.formats.source import DataSource, Fields
from pumer_convert.data.picture_files import Pictures, roots
from pumer_convert.data.sample import CellPicture, Sample
from pumer_convert.errors import InputError, MissingDependencyError

KIND = "a folder saved by `datasets`"
TASKS = simple.TASKS
_NAMES = {
    "id": ("question_id", "identifier", "pairID", "qid", "sentid"),
    "image_id": ("img_id", "cocoid", "filename"),
    "label": ("gold_label",),
    "text": ("sentence2",),
}
"""Fields of the simple format, and what the originals call them."""
_SINGLE = ("dataset_info.json", "state.json")


def recognises(source: DataSource) -> bool:
    """A folder with the files that save_to_disk writes."""
    path = source.path
    return source.is_folder and ((path / "dataset_dict.json").exists() or all((path / f).exists() for f in _SINGLE))


def read(source: DataSource, task: str, images: Path | None, split: str | None) -> Iterator[Sample | InputError]:
    """The samples, or what is wrong with a row. Raises MissingDependencyError without `datasets`."""
    try:
        datasets = importlib.import_module("datasets")
    except ImportError:
        raise MissingDependencyError(f"{source.path}: needs the package datasets: pip install datasets.") from None
    folder = _choose(source.path, split)
    data = datasets.load_from_disk(str(folder))
    columns = [c for c in data.column_names if _holds_pictures(data.features[c], datasets.Image)]
    # The other columns alone, so that going through the rows decodes no picture.
    plain = data.remove_columns(columns)
    for column in columns:
        # Decoded here, by the rules of all pictures; a column of lists would be written anew for that.
        if isinstance(data.features[column], datasets.Image):
            data = data.cast_column(column, datasets.Image(decode=False))
    pictures = Pictures(roots(source.path, images))
    for number in range(len(data)):
        where = f"{folder}:{number + 1}"
        row = _renamed(dict(plain[number]), plain.features)
        try:
            if columns:
                row = _with_pictures(row, data, number, columns, where)
            yield from list(simple.convert(row, task, where, pictures))
        except InputError as error:
            yield error


def _choose(path: Path, split: str | None) -> Path:
    listing = path / "dataset_dict.json"
    if not listing.exists():
        return path
    splits = [str(name) for name in json.loads(listing.read_text("utf-8")).get("splits", [])]
    if split is None and len(splits) == 1:
        return path / splits[0]
    if split not in splits:
        raise InputError(f"{path}: say which split; it has {', '.join(splits)}.")
    return path / split


def _holds_pictures(feature: Any, kind: type) -> bool:
    return isinstance(feature, kind) or isinstance(getattr(feature, "feature", None), kind)


def _renamed(row: Fields, features: Any) -> Fields:
    for column, value in row.items():
        classes = getattr(features[column], "names", None)
        if classes and isinstance(value, int):
            row[column] = classes[value] if 0 <= value < len(classes) else None
    for name, others in _NAMES.items():
        if row.get(name) is None:
            row[name] = next((row[other] for other in others if row.get(other) is not None), None)
    captions = row.get("caption")
    if isinstance(captions, list):
        row["texts"] = captions
    return {name: value for name, value in row.items() if value is not None}


def _with_pictures(row: Fields, data: Any, number: int, columns: list[str], where: str) -> Fields:
    if len(columns) == 1 and hasattr(data.features[columns[0]], "feature"):
        count = len(data[number][columns[0]])
        cells = [CellPicture(f"{where}.{columns[0]}[{i}]", data, number, columns[0], i) for i in range(count)]
    else:
        cells = [CellPicture(f"{where}.{column}", data, number, column) for column in columns]
    return {**row, "images": cells} if len(cells) > 1 else {**row, "image": cells[0] if cells else None}
