"""Names of classes as texts: put into a template, such as "a photo of a {}"."""

from collections.abc import Sequence

from pumer_convert.data.sample import fault_of_text
from pumer_convert.errors import InputError

PLACE = "{}"
"""Where the name goes; as a whole template it leaves the name as it is."""


def filled(template: str, names: Sequence[str]) -> list[str]:
    """The template with each name in it. Raises InputError for no name, one given twice, what is no text, and a
    template without a place for the name."""
    if isinstance(names, str) or not names:
        raise InputError("labels are a list of one text or more.")
    for text in (template, *names):
        if fault := fault_of_text(text):
            raise InputError(fault)
    if PLACE not in template:
        raise InputError(f"the template {template[:60]!r} has no {PLACE}, where the label goes.")
    for place, name in enumerate(names):
        if name in names[:place]:
            raise InputError(f"the label '{name[:60]}' is given twice.")
    return [template.replace(PLACE, name) for name in names]
