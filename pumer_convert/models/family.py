"""The registry of model families. A family is a module (see `Family` in spec.py) and one line here."""

import importlib
from types import ModuleType

from pumer_convert.errors import InputError, nearest

FAMILIES = {
    "vilt": "pumer_convert.models.vilt",
    "meter": "pumer_convert.models.meter",
}


def family_module(name: str) -> ModuleType:
    """The module of a model family. Raises InputError when there is none of that name."""
    if name not in FAMILIES:
        raise InputError(f"there is no model family '{name}'; known: {', '.join(FAMILIES)}.{nearest(name, FAMILIES)}")
    return importlib.import_module(FAMILIES[name])
