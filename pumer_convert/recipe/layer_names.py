"""Layers by their names, as recipes and options write them."""

import re

from pumer_convert.errors import InputError

SINGLE = ("projector",)
"""Sites that are no stack of layers."""
SITES = f"name.number as in fusion.0, fusion.0-3 or fusion.0,2,5, or {', '.join(SINGLE)}, or a list of these"
NUMBERED = re.compile(r"([A-Za-z_]\w*)\.(\d{1,3}(?:-\d{1,3})?(?:\s*,\s*\d{1,3}(?:-\d{1,3})?)*)", re.ASCII)


def layer_names(text: str) -> tuple[str, ...]:
    """The layers that a text such as "fusion.0,2-3" or "head" names. Raises InputError for a range that runs
    backwards."""
    match = NUMBERED.fullmatch(text.strip())
    if match is None:
        return (text.strip(),)
    names: list[str] = []
    for part in match[2].split(","):
        first, _, last = part.strip().partition("-")
        numbers = range(int(first), int(last or first) + 1)
        if not numbers:
            raise InputError(f"{first}-{last}, which runs backwards; write {last}-{first}.")
        names += (f"{match[1]}.{number}" for number in numbers)
    return tuple(names)
