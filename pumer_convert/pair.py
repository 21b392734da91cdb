"""Two checkpoints side by side: what a reduced one was made from, and whether two can be compared."""

import json
from pathlib import Path
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.labels import placeholders
from pumer_convert.tasks.base import names
from pumer_convert.weights import Checkpoint


def source_of(path: Path) -> Path | None:
    """The checkpoint that a reduced folder was made from, by its report.json; None when it names none."""
    try:
        named = json.loads((path / "report.json").read_text("utf-8"))["source"]["path"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return Path(named) if isinstance(named, str) else None


def check_comparable(one: Checkpoint, other: Checkpoint) -> None:
    """Raises InputError naming what keeps two checkpoints from being measured on the same inputs and answers."""

    def differ(what: str, a: object, b: object) -> InputError:
        return InputError(f"{other.path} cannot be compared with {one.path}: its {what} is {b}, not {a}.")

    texts = [c.config.get("text", c.config) for c in (one, other)]
    for what, a, b in (
        ("model", one.family, other.family),
        ("task", one.task, other.task),
        ("image size", *(_sides(c.config["image_size"]) for c in (one, other))),
        ("vocabulary size", texts[0].get("vocab_size"), texts[1].get("vocab_size")),
    ):
        if a != b:
            raise differ(what, a, b)
    if one.task == "retrieval":
        return
    a_labels, b_labels = names(one.config), names(other.config)
    if len(a_labels) != len(b_labels):
        raise differ("number of labels", len(a_labels), len(b_labels))
    if placeholders(a_labels) or placeholders(b_labels):
        return  # one of them came without names
    for i, (a_label, b_label) in enumerate(zip(a_labels, b_labels, strict=True)):
        if a_label != b_label:
            raise differ(f"label {i}", f"'{a_label}'", f"'{b_label}'")


def _sides(size: Any) -> str:
    height, width = (size, size) if isinstance(size, int) else size
    return f"{height}x{width}"
