"""A simple format of our own: JSON lines, one object per sample, in UTF-8.

    {"image": "pictures/1.jpg", "text": "What is it?", "answers": ["cat", "cat", "kitten"]}     vqa; or "answer": "cat"
    {"image": "pictures/1.jpg", "text": "What is it?", "answers": {"cat": 1.0, "kitten": 0.3}}  vqa, ready scores
    {"images": ["1.jpg", "2.jpg"], "text": "Both have a cat.", "label": true}                   nlvr2
    {"image": "pictures/1.jpg", "text": "A dog sleeps.", "label": "contradiction"}              ve
    {"image": "pictures/1.jpg", "text": "A cat on a mat."}        retrieval; "texts": [...] for several captions
    {"image": "pictures/1.jpg", "label": "cat"}                                                 zero_shot; or "class"
    {"image": "pictures/1.jpg"}                                                                 pictures, alone

"id" names a sample (the line's number if left out). Pictures are looked for beside the file, then in `images`.
In retrieval, captions of one picture belong together; "image_id" says so where one picture has several files.
"split" keeps a row for that split. A null is a field that is left out. Other fields are left alone; "question",
"sentence", "hypothesis" and "caption" are read as "text", the one that the task calls so before others. A row where it
differs from "text" is refused.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pumer_convert.data.formats.rows import read_rows
from pumer_convert.data.formats.source import DataSource, Fields, field
from pumer_convert.data.picture_files import Pictures
from pumer_convert.data.sample import LABELS, Picture, Sample
from pumer_convert.errors import InputError, UnjudgedError

KIND = "simple JSON lines"
TASKS = ("vqa", "nlvr2", "ve", "retrieval", "zero_shot", "pictures")
_CALLED = {"vqa": "question", "nlvr2": "sentence", "ve": "hypothesis", "retrieval": "caption"}
"""What the text is called in the data sets of a task."""
TEXT = ("text", *_CALLED.values())
_TRUTH = {"true": True, "false": False, "1": True, "0": False}


def recognises(source: DataSource) -> bool:
    """Rows with a picture, or with several and a text or a class."""
    first = source.first
    told = (*TEXT, "texts", "label", "class")
    return "image" in first or ("images" in first and any(name in first for name in told))


def read(source: DataSource, task: str, images: Path | None, split: str | None) -> Iterator[Sample | InputError]:
    """The samples, or what is wrong with a row."""
    return read_rows(source, convert, task, images, split)


def convert(row: Fields, task: str, where: str, pictures: Pictures) -> Iterator[Sample]:
    """The samples of a row."""
    row = {name: value for name, value in row.items() if value is not None}
    number = str(row.get("id", where.rsplit(":", 1)[-1].strip("[]")))
    wanted = 2 if task == "nlvr2" else 1
    given = row["images"] if "images" in row else [field(row, "image", where, object)]
    if not isinstance(given, list | tuple) or len(given) != wanted:
        raise InputError(f"{where}: {task} takes {wanted} picture(s), in the field 'image{'s' if wanted > 1 else ''}'.")
    found = tuple(_picture(value, where, pictures) for value in given)
    if task == "retrieval":
        identity = str(row.get("image_id", found[0].name))
        texts = field(row, "texts", where, list) if "texts" in row else [_text(row, task, where)]
        for i, text in enumerate(texts):
            if not isinstance(text, str) or not text:
                raise InputError(f"{where}: texts[{i}] is not a text.")
            yield Sample(number if len(texts) == 1 else f"{number}#{i}", found, text, identity, where)
        return
    if task == "zero_shot":
        name = "class" if "class" in row else "label"
        yield Sample(number, found, "", str(field(row, name, where, (str, int))).strip(), where)
        return
    if task == "pictures":
        yield Sample(number, found, "", None, where)
        return
    yield Sample(number, found, _text(row, task, where), _TARGETS[task](row, where), where)


def _text(row: Fields, task: str, where: str) -> Any:
    own = _CALLED[task]
    if own in row and row.get("text", row[own]) != row[own]:
        raise InputError(f"{where}: the fields 'text' and '{own}' differ, and either may be the text; leave one out.")
    return field(row, next((name for name in (own, *TEXT) if name in row), "text"), where)


def _picture(value: Any, where: str, pictures: Pictures) -> Picture:
    if hasattr(value, "open") and hasattr(value, "name"):
        return value  # type: ignore[no-any-return]  # a row of `datasets` brings its own
    if not isinstance(value, str) or not value:
        raise InputError(f"{where}: a picture is named by its path, not {value!r}.")
    return pictures.find([value], where)


def _answers(row: Fields, where: str) -> Any:
    if "answers" not in row:
        return (str(field(row, "answer", where, (str, int))),)
    given = field(row, "answers", where, (list, dict))
    if isinstance(given, dict):
        if not all(isinstance(score, int | float) and 0 <= score <= 1 for score in given.values()):
            raise InputError(f"{where}: the scores of 'answers' are numbers from 0 to 1.")
        return given
    # In VQAv2's own form every answer is an object.
    found = [answer.get("answer") if isinstance(answer, dict) else answer for answer in given]
    if not found or not all(isinstance(answer, str | int) for answer in found):
        raise InputError(f"{where}: the field 'answers' is a list of texts.")
    return tuple(map(str, found))


def _truth(row: Fields, where: str) -> bool:
    label = str(field(row, "label", where, (bool, str, int)))
    if label.lower() not in _TRUTH:
        raise InputError(f"{where}: the label of nlvr2 is true or false, not '{label}'.")
    return _TRUTH[label.lower()]


def _entailment(row: Fields, where: str) -> str:
    label = str(field(row, "label", where)).strip().lower()
    if label == "-":
        raise UnjudgedError("label '-', on which the annotators did not agree")
    if label not in LABELS:
        raise InputError(f"{where}: the label of ve is one of {', '.join(LABELS)}, not '{label}'.")
    return label


_TARGETS = {"vqa": _answers, "nlvr2": _truth, "ve": _entailment}
