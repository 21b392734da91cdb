"""TextVQA's questions (textvqa.org), such as TextVQA_0.5.1_val.json, with its pictures.

One JSON document with data: [{question_id, question, image_id, answers: [ten texts]}], of which the test set has no
answers. Pictures are train_images/<image_id>.jpg, of the validation set as well, and test_images/<image_id>.jpg. Each
split has a file of its own.
"""

from collections.abc import Iterator
from pathlib import Path

from pumer_convert.data.formats.rows import read_rows
from pumer_convert.data.formats.source import DataSource, Fields, field
from pumer_convert.data.picture_files import Pictures
from pumer_convert.data.sample import Sample
from pumer_convert.errors import InputError

KIND = "TextVQA's own questions"
TASKS = ("vqa",)


def recognises(source: DataSource) -> bool:
    """A document that says so, or whose rows are its questions."""
    if source.is_folder or not isinstance(source.document.get("data"), list):
        return False
    ours = {"question_id", "question", "image_id", "flickr_300k_url"} <= source.first.keys()
    return ours or str(source.document.get("dataset_name", "")).lower() == "textvqa"


def read(source: DataSource, task: str, images: Path | None, split: str | None) -> Iterator[Sample | InputError]:
    """The samples, or what is wrong with a question. Raises InputError when a split is asked for that the file is not
    of."""
    held = source.document.get("dataset_type", split)
    if split not in (None, held):
        raise InputError(f"{source.path}: holds {held}, not '{split}'; TextVQA has a file for each split.")
    return read_rows(source, _sample, task, images, None)


def _sample(row: Fields, task: str, where: str, pictures: Pictures) -> Iterator[Sample]:
    number, image = (str(field(row, name, where, (int, str))) for name in ("question_id", "image_id"))
    names = [f"{folder}{image}.jpg" for folder in ("", "train_images/", "test_images/")]
    answers = row.get("answers", [])
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise InputError(f"{where}: the field 'answers' is a list of texts.")
    yield Sample(number, (pictures.find(names, where),), field(row, "question", where), tuple(answers), where)
