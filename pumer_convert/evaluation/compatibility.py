"""Whether two checkpoints can be measured on the same inputs and answers."""

from pumer_convert.errors import InputError
from pumer_convert.image_processor.picture_input import in_words
from pumer_convert.models.family import family_of
from pumer_convert.models.labels import names, placeholders
from pumer_convert.weights import EMBEDDINGS, Checkpoint


def check_comparable(one: Checkpoint, other: Checkpoint) -> None:
    """Raises InputError naming what keeps two checkpoints from being measured on the same inputs and answers."""

    def differ(what: str, a: object, b: object) -> InputError:
        return InputError(f"{other.path} cannot be compared with {one.path}: its {what} is {b}, not {a}.")

    if one.family != other.family:
        raise differ("model", one.family, other.family)
    specs = [family_of(c.family).spec(c.config) for c in (one, other)]
    sizes = [None if spec.image is None else "x".join(map(str, spec.image.size)) for spec in specs]
    words = [None if spec.text is None else spec.text.vocabulary for spec in specs]
    same: tuple[tuple[str, object, object], ...] = (
        ("task", one.task, other.task),
        ("image size", sizes[0], sizes[1]),
        ("vocabulary size", words[0], words[1]),
    )
    for what, a, b in same:
        if a != b:
            raise differ(what, a, b)
    if (ours := in_words(one)) != (theirs := in_words(other)):
        raise differ("way with pictures", theirs, ours)
    if one.task in ("retrieval", EMBEDDINGS):
        return
    a_labels, b_labels = names(one.config), names(other.config)
    if len(a_labels) != len(b_labels):
        raise differ("number of labels", len(a_labels), len(b_labels))
    if placeholders(a_labels) or placeholders(b_labels):
        return  # one of them came without names
    for i, (a_label, b_label) in enumerate(zip(a_labels, b_labels, strict=True)):
        if a_label != b_label:
            raise differ(f"label {i}", f"'{a_label}'", f"'{b_label}'")
