"""Whether the sidecar of an exported file says what its readers go by."""

from collections.abc import Mapping
from math import prod
from typing import Any

from pumer_convert.image_processor.pixels import MOST
from pumer_convert.models import FAMILIES
from pumer_convert.tasks import TASKS


def is_sidecar(values: Mapping[str, Any]) -> bool:
    """Whether every value that is gone by is there and of its kind; see `describe` for what they mean."""
    text, pictures = values.get("text"), values.get("pictures")
    return (
        _one_of(values.get("task"), TASKS)
        and _one_of(values.get("model"), FAMILIES)
        and all(name in values and isinstance(values[name], dict | None) for name in ("labels", "preprocessing"))
        and _is_size(values.get("image_size"))
        and isinstance(text, dict)
        and _is_count(text.get("longest"), 2)
        and "pad_token_id" in text
        and all(text.get(name) is None or _is_count(text[name], 0) for name in ("pad_token_id", "vocab_size"))
        and (pictures is None or (isinstance(pictures, dict) and _is_pictures(pictures)))
    )


def _is_pictures(told: Mapping[str, Any]) -> bool:
    # Version 0.1 wrote nothing of pictures; what did, wrote all of it.
    sizes = all(name in told for name in ("asked", "size"))
    numbers = all(_is_count(told.get(name), 1) for name in ("images", "patch", "fewest", "usual"))
    limit = "most" in told and all(told.get(name) is None or _is_count(told[name], 1) for name in ("most", "limit"))
    asked, size = told.get("asked"), told.get("size")
    return (
        sizes
        and numbers
        and limit
        and (asked is None or _is_count(asked, 1) or _is_size(asked))
        and (size is None or _is_size(size))
    )


def _one_of(value: Any, known: Mapping[str, Any]) -> bool:
    return isinstance(value, str) and value in known


def _is_count(value: Any, least: int) -> bool:
    return type(value) is int and least <= value <= MOST


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_is_count(n, 1) for n in value) and prod(value) <= MOST
