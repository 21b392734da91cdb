"""What a reduced folder was made from: how its report says so, and where that is today."""

import os
from dataclasses import dataclass
from pathlib import Path

from pumer_convert.checkpoint.fingerprint import fingerprint
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.errors import InputError
from pumer_convert.system.json_file import read_object
from pumer_convert.weights import Checkpoint


@dataclass(frozen=True)
class Origin:
    """`place` None: not known for certain; `why` is a sentence without its end that tells so."""

    place: Path | None
    why: str = ""


def origin_entry(checkpoint: Checkpoint, out: Path) -> dict[str, str]:
    """What the report.json of the folder `out` says of the checkpoint that it is made from: where that lies, and how it
    is known again."""
    return {
        "path": str(checkpoint.path.absolute()),
        "relative": os.path.relpath(checkpoint.path.absolute(), out.absolute()),
        "origin": checkpoint.origin,
        "fingerprint": fingerprint(checkpoint),
    }


def origin_of(path: Path) -> Origin | None:
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
            return Origin(place)
    if there:
        return Origin(None, f"{there[0]} is not the checkpoint that {path} was made from, or was changed since")
    return Origin(None, f"{named}, which {path} was made from, is not there any more")


def _known(place: Path, recorded: str) -> bool:
    try:
        return fingerprint(open_checkpoint(place)) == recorded
    except InputError:
        return False


def _of_before(named: Path, path: Path) -> Origin:
    if not named.is_absolute():
        return Origin(None, f"{path} was made by an earlier version, from '{named}' in a folder that is not known")
    if not named.exists():
        return Origin(None, f"{named}, which {path} was made from, is not there any more")
    return Origin(named, f"{named} is taken for what {path} was made from: an earlier version kept no fingerprint")
