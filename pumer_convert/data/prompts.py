"""Names of classes as texts: put into a template, such as "a photo of a {}"."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pumer_convert.data.sample import fault_of_text
from pumer_convert.errors import InputError

PLACE = "{}"
"""Where the name goes; as a whole template it leaves the name as it is."""


def filled(template: str, names: Sequence[str]) -> list[str]:
    """The template with each name in it. Raises InputError for no name, an empty one, one given twice, what is no text,
    and a template without a place for the name."""
    if isinstance(names, str) or not names:
        raise InputError("labels are a list of one text or more.")
    for text in (template, *names):
        if fault := fault_of_text(text):
            raise InputError(fault)
    if PLACE not in template:
        raise InputError(f"the template {template[:60]!r} has no {PLACE}, where the label goes.")
    for place, name in enumerate(names):
        if not name.strip():
            raise InputError("a label is empty.")
        if name in names[:place]:
            raise InputError(f"the label '{name[:60]}' is given twice.")
    return [template.replace(PLACE, name) for name in names]


@dataclass(frozen=True)
class Classes:
    """Classes by the name that data give them, with the name that a text says, and the `templates` it is put into."""

    names: Mapping[str, str]
    templates: tuple[str, ...] = (PLACE,)


def read_classes(file: Path) -> Classes:
    """The classes of a text file, a line each: its name, or the name that the data give it, a tab, and the name to be
    said; lines with a {} are templates. Raises InputError for what is none, or not whole."""
    try:
        lines = [line.strip() for line in file.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not readable as UTF-8 text ({error}).") from None
    templates = tuple(line for line in lines if PLACE in line) or (PLACE,)
    names: dict[str, str] = {}
    for line in lines:
        key, _, name = (part.strip() for part in line.partition("\t"))
        if PLACE in line:
            continue
        if key in names:
            raise InputError(f"{file}: the class '{key[:60]}' is there twice.")
        names[key] = name or key
    if not names:
        raise InputError(f"{file}: there is no name of a class in it; each has a line.")
    try:
        for template in templates:
            filled(template, [*names.values()])
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    return Classes(names, templates)
