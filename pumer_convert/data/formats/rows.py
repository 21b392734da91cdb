"""Formats that are rows of one sample or a few: what reading them has in common."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pumer_convert.data.formats.source import Fields, Source
from pumer_convert.data.pictures import Pictures, roots
from pumer_convert.data.sample import Sample
from pumer_convert.errors import InputError

Convert = Callable[[Fields, str, str, Pictures], Iterable[Sample]]
"""(row, task, where, pictures) -> its samples. Raises InputError for a row that is not whole."""


def read_rows(
    source: Source, convert: Convert, task: str, images: Path | None, split: str | None
) -> Iterator[Sample | InputError]:
    """Every row's samples, or the error in their place. Rows that name another split than the wanted one are left."""
    pictures = Pictures(roots(source.path, images))
    for row, where in source.rows():
        if isinstance(row, InputError):
            yield row
            continue
        if split is not None and row.get("split", split) != split:
            continue
        try:
            yield from list(convert(row, task, where, pictures))
        except InputError as error:
            yield error
