"""Whether two checkpoints can be measured on the same inputs and answers."""

from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.image_processor.picture_input import in_words, input_of, settings_of
from pumer_convert.models.labels import names, placeholders
from pumer_convert.weights import Checkpoint


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
    if (ours := _fit(one)) != (theirs := _fit(other)):
        raise differ("way with pictures", theirs, ours)
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


def _fit(checkpoint: Checkpoint) -> str:
    settings = settings_of(checkpoint.processor, checkpoint.family)
    return in_words(settings, input_of(settings, checkpoint.family, checkpoint.config))


def _sides(size: Any) -> str:
    height, width = (size, size) if isinstance(size, int) else size
    return f"{height}x{width}"
