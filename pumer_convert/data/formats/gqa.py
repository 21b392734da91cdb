"""GQA's questions (cs.stanford.edu/people/dorarad/gqa), such as testdev_balanced_questions.json, with its pictures.

One JSON document: {question id: {imageId, question, answer}}, of which "answer" is missing in the test and challenge
sets. Pictures are images/<imageId>.jpg. Each split has a file of its own.
"""

from collections.abc import Iterator
from pathlib import Path

from pumer_convert.data.formats.source import DataSource, Fields, field
from pumer_convert.data.picture_files import Pictures, roots
from pumer_convert.data.sample import Sample
from pumer_convert.errors import InputError

KIND = "GQA's own questions"
TASKS = ("vqa",)


def recognises(source: DataSource) -> bool:
    """A document whose values are questions on an imageId."""
    if source.is_folder:
        return False
    first = next(iter(source.document.values()), None)
    return isinstance(first, dict) and {"imageId", "question"} <= first.keys()


def read(source: DataSource, task: str, images: Path | None, split: str | None) -> Iterator[Sample | InputError]:
    """The samples, or what is wrong with a question. Raises InputError when a split is asked for."""
    if split is not None:
        raise InputError(
            f"{source.path}: GQA has a file for each split; give that of '{split}' and leave the split out."
        )
    pictures = Pictures(roots(source.path, images))
    for number, row in source.document.items():
        where = f"{source.path}:{number}"
        try:
            yield _sample(number, row, where, pictures)
        except InputError as error:
            yield error


def _sample(number: str, row: Fields, where: str, pictures: Pictures) -> Sample:
    if not isinstance(row, dict):
        raise InputError(f"{where}: not a JSON object.")
    image = f"{field(row, 'imageId', where)}.jpg"
    picture = pictures.find([image, f"images/{image}", f"allImages/images/{image}"], where)
    answers = (field(row, "answer", where),) if "answer" in row else ()
    return Sample(number, (picture,), field(row, "question", where), answers, where)
