"""Formats that are rows of one sample or a few: what reading them has in common."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pumer_convert.data.formats.source import DataSource, Fields
from pumer_convert.data.picture_files import Pictures, roots
from pumer_convert.data.sample import Sample
from pumer_convert.errors import InputError, nearest

Convert = Callable[[Fields, str, str, Pictures], Iterable[Sample]]
"""(row, task, where, pictures) -> its samples. Raises InputError for a row that is not whole."""


def read_rows(
    source: DataSource, convert: Convert, task: str, images: Path | None, split: str | None
) -> Iterator[Sample | InputError]:
    """Every row's samples, or the error in their place. Rows that name another split than the wanted one are left; a
    row that names none is of every split, but then others have to name one. Raises InputError when none does."""
    if split is not None:
        check_split(source, split)
    pictures = Pictures(roots(source.path, images))
    for row, where in source.rows():
        if isinstance(row, InputError):
            yield row
            continue
        if split is not None and row.get("split") not in (None, split):
            continue
        try:
            yield from list(convert(row, task, where, pictures))
        except InputError as error:
            yield error


def check_split(source: DataSource, split: str) -> None:
    """Raises InputError when no row is of that split, or none names any: all rows would stand for each split then, and
    a model would be validated on what it was trained with."""
    named = {str(row["split"]) for row, _ in source.rows() if isinstance(row, dict) and row.get("split") is not None}
    if not named:
        raise InputError(
            f"{source.path}: its rows name no split, so there is no '{split}' to take; leave the split out, or give a "
            "file of its own for each."
        )
    if split not in named:
        raise InputError(
            f"{source.path}: there is no sample of split '{split}' in it; there are {', '.join(sorted(named))}."
            f"{nearest(split, named)}"
        )
