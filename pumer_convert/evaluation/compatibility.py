"""Two checkpoints side by side: what a reduced one was made from, and whether two can be compared."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pumer_convert.checkpoint.fingerprint import fingerprint
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.errors import InputError
from pumer_convert.image_processor.picture_input import in_words, input_of, settings_of
from pumer_convert.models.labels import names, placeholders
from pumer_convert.system.json_file import read_object
from pumer_convert.weights import Checkpoint


@dataclass(frozen=True)
class Source:
    """`place` None: not known for certain; `why` is a sentence without its end that tells so."""

    place: Path | None
    why: str = ""


def source_entry(checkpoint: Checkpoint, out: Path) -> dict[str, str]:
    """What the report.json of the folder `out` says of the checkpoint that it is made from: where that lies, and how it
    is known again."""
    return {
        "path": str(checkpoint.path.absolute()),
        "relative": os.path.relpath(checkpoint.path.absolute(), out.absolute()),
        "origin": checkpoint.origin,
        "fingerprint": fingerprint(checkpoint),
    }


def source_of(path: Path) -> Source | None:
    """The checkpoint that a reduced folder was made from, by its report.json; None when that names none.

    It is looked for where it was, and where it would be had both been moved together; what lies there counts only when
    its fingerprint is the recorded one. A report of before there were fingerprints is taken at its word where it names
    an absolute path.
    """
    try:
        entry = read_object(path / "report.json")["source"]
        named = entry["path"]
    except (InputError, LookupError, TypeError):
        return None
    if not isinstance(named, str):
        return None
    if "fingerprint" not in entry:
        return _of_before(Path(named), path)
    places = [Path(named), Path(os.path.normpath(path.absolute() / str(entry.get("relative", named))))]
    there = [place for place in dict.fromkeys(places) if place.exists()]
    for place in there:
        if _known(place, entry["fingerprint"]):
            return Source(place)
    if there:
        return Source(None, f"{there[0]} is not the checkpoint that {path} was made from, or was changed since")
    return Source(None, f"{named}, which {path} was made from, is not there any more")


def _known(place: Path, recorded: str) -> bool:
    try:
        return fingerprint(open_checkpoint(place)) == recorded
    except InputError:
        return False


def _of_before(named: Path, path: Path) -> Source:
    if not named.is_absolute():
        return Source(None, f"{path} was made by an earlier version, from '{named}' in a folder that is not known")
    if not named.exists():
        return Source(None, f"{named}, which {path} was made from, is not there any more")
    return Source(named, f"{named} is taken for what {path} was made from: an earlier version kept no fingerprint")


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
