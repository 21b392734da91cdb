"""The one reader of JSON: files that hold an object (a checkpoint's, an export's, a report), and rows of data."""

import json
import math
from pathlib import Path
from typing import Any

from pumer_convert.errors import InputError

LFS = b"version https://git-lfs"
"""How a file begins that stands for one which was not fetched."""


def read_object(file: Path) -> dict[str, Any]:
    """What `file` says; see `parse_object`. Raises InputError when it cannot be read, too."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}).") from None
    return parse_object(data, str(file))


def parse_object(data: bytes | str, where: str) -> dict[str, Any]:
    """The JSON object in `data`: of bytes UTF-8, -16 or -32, with a byte-order mark or without.

    Raises InputError, which begins with `where`, for anything else; also for a name with two different values, of
    which one would be ignored, and for NaN and infinities, which are no JSON.
    """
    if isinstance(data, bytes) and data.startswith(LFS):
        raise InputError(f"{where} is a Git LFS pointer, not the file; fetch it with `git lfs pull`.")
    try:
        value = json.loads(data, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
    except RecursionError:
        raise InputError(f"{where} is not readable as a JSON object (nested too deeply).") from None
    except ValueError as error:
        raise InputError(f"{where} is not readable as a JSON object ({error}).") from None
    if not isinstance(value, dict):
        raise InputError(f"{where} is not a JSON object, which begins with {{.")
    return value


def parse_value(data: bytes | str) -> Any:
    """The JSON value in `data`, as people write rows of data: NaN and infinities are numbers there.

    Raises ValueError for anything else, and as `parse_object` for a name with two different values.
    """
    try:
        return json.loads(data, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    found = {}
    for name, value in pairs:
        if found.setdefault(name, value) != value:
            raise ValueError(f"'{name}' stands there twice with different values")
    return found


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:20]} is too large a number")
    return value
