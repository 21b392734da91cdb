"""VQAv2 as it is downloaded (visualqa.org): questions and annotations, each one JSON document, and COCO's pictures.

v2_OpenEnded_mscoco_train2014_questions.json has data_subtype and questions: [{question_id, image_id, question}];
v2_mscoco_train2014_annotations.json has annotations: [{question_id, answers: [{answer}]}]. Pictures are
train2014/COCO_train2014_000000000009.jpg, or, as COCO is downloaded today, train2017/000000000009.jpg. Test questions
come without annotations and with test2015's pictures. The numbers may be texts, as some tools write them.
Give the folder that holds the files, with a split if there are several, or the file of questions.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pumer_convert.data.formats.source import DataSource, Fields, field
from pumer_convert.data.picture_files import Pictures, roots
from pumer_convert.data.sample import Sample
from pumer_convert.errors import InputError

KIND = "VQA's own questions"
TASKS = ("vqa",)
_YEARS = {"train": "train2014", "val": "val2014", "test": "test2015", "test-dev": "test-dev2015"}
_ENDING = "_questions.json"


def recognises(source: DataSource) -> bool:
    """A document with questions, or a folder with such a file."""
    if source.is_folder:
        return bool(_files(source.path))
    return isinstance(source.document.get("questions"), list)


def read(source: DataSource, task: str, images: Path | None, split: str | None) -> Iterator[Sample | InputError]:
    """The samples, or what is wrong with a question. Raises InputError when the files do not fit each other."""
    if source.is_folder:
        source = DataSource(_choose(source.path, split))
    document = source.document
    if not isinstance(document.get("questions"), list):
        raise InputError(f"{source.path}: there are no questions in it.")
    subset = str(field(document, "data_subtype", str(source.path)))
    if split is not None and subset != _YEARS.get(split, split):
        raise InputError(f"{source.path}: holds {subset}, not '{split}'.")
    answers = _answers(source.path, subset)
    asked = {str(row.get("question_id")) for row in document["questions"] if isinstance(row, dict)}
    if answers is not None and asked and not asked & answers.keys():
        raise InputError(
            f"{source.path}: none of its questions is answered in {_beside(source.path)}; they are of other sets."
        )
    pictures = Pictures(roots(source.path, images))
    for number, row in enumerate(document["questions"]):
        try:
            yield _sample(row, f"{source.path}:questions[{number}]", subset, answers, pictures)
        except InputError as error:
            yield error


def of_2017(file: str) -> list[str]:
    """The names of COCO's picture `file` (COCO_val2014_000000000042.jpg) in the folders that are downloaded today. A
    picture of val2014 may lie in either; the numbers are the same."""
    number = file.rsplit("_", 1)[-1]
    folders = ("test2017",) if "_test" in file else ("val2017", "train2017")
    return [*(f"{start}{folder}/{number}" for start in ("", "images/") for folder in folders), number]


def _sample(
    row: Any, where: str, subset: str, answers: dict[str, tuple[str, ...]] | None, pictures: Pictures
) -> Sample:
    if not isinstance(row, dict):
        raise InputError(f"{where}: not a JSON object.")
    number = str(field(row, "question_id", where, (int, str)))
    text = field(row, "question", where)
    year = subset.replace("test-dev", "test")
    file = f"COCO_{year}_{str(field(row, 'image_id', where, (int, str))).zfill(12)}.jpg"
    picture = pictures.find([f"{year}/{file}", file, f"images/{year}/{file}", *of_2017(file)], where)
    if answers is not None and not answers.get(number):
        raise InputError(f"{where}: question {number} has no answers in the annotations.")
    return Sample(number, (picture,), text, answers[number] if answers is not None else (), where)


def _files(folder: Path) -> list[Path]:
    found = [*folder.glob(f"*{_ENDING}"), *folder.glob(f"*/*{_ENDING}")]
    return sorted(file for file in found if "MultipleChoice" not in file.name)


def _choose(folder: Path, split: str | None) -> Path:
    files = _files(folder)
    fit = [f for f in files if split is None or f.name.endswith(f"_{_YEARS.get(split, split)}{_ENDING}")]
    if len(fit) != 1:
        what = f"no questions of split '{split}'" if not fit else "several files of questions; say which split"
        raise InputError(f"{folder}: {what}; there are {', '.join(file.name for file in files)}.")
    return fit[0]


def _answers(questions: Path, subset: str) -> dict[str, tuple[str, ...]] | None:
    """The humans' answers by question; None for a test set, of which they are not public."""
    file = _beside(questions)
    if file is None:
        if subset.startswith("test"):
            return None
        raise InputError(f"{questions}: its annotations are not beside it ({_annotations_of(questions)}).")
    document = DataSource(file).document
    if document.get("data_subtype", subset) != subset:
        raise InputError(f"{file}: holds {document['data_subtype']}, but the questions are of {subset}.")
    rows = document.get("annotations")
    if not isinstance(rows, list):
        raise InputError(f"{file}: there are no annotations in it.")
    found: dict[str, tuple[str, ...]] = {}
    for i, row in enumerate(rows):
        number, given = _annotation(row, f"{file}:annotations[{i}]")
        if found.setdefault(number, given) != given:
            raise InputError(f"{file}:annotations[{i}]: question {number} is annotated twice, with different answers.")
    return found


def _annotations_of(questions: Path) -> str:
    return questions.name.replace("OpenEnded_", "").replace(_ENDING, "_annotations.json")


def _beside(questions: Path) -> Path | None:
    name = _annotations_of(questions)
    places = [questions.parent / name, *sorted(questions.parent.parent.glob(f"*/{name}"))]
    return next((place for place in places if place.is_file() and place != questions), None)


def _annotation(row: Fields, where: str) -> tuple[str, tuple[str, ...]]:
    # A broken annotation leaves its question without answers, and is reported there.
    try:
        given = field(row, "answers", where, list)
        # Millions of answers are few different words: interned, each is kept once.
        number = str(field(row, "question_id", where, (int, str)))
        return number, tuple(sys.intern(field(a, "answer", where)) for a in given)
    except (InputError, AttributeError, TypeError):
        return str(row.get("question_id", "") if isinstance(row, dict) else ""), ()
