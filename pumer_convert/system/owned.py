"""Which files this project wrote: a JSON file of ours lists them with their hashes, itself included.

A folder has report.json, an exported file its sidecar. What is not listed, or is not any more what was written, belongs
to somebody else. Reports and sidecars of before there were lists tell files by their names alone.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.system.json_file import read_object

LIST = "files"
REPORT = "report.json"
TRITON = "triton"
"""The model repository in a folder of an export."""
SIDECARS = ("*.onnx.json", "*.engine.json")
EARLIER = re.compile(
    r"config\.json|report\.json|recipe\.yaml|README\.md|model(-\d{5}-of-\d{5})?\.safetensors"
    r"|model\.safetensors\.index\.json|metrics\.jsonl|curve\.png|tensorboard/events\.out\.tfevents\.[^/]*"
    r"|(pre)?processor_config\.json|tokenizer\.json|tokenizer\.model|tokenizer_config\.json|special_tokens_map\.json"
    r"|added_tokens\.json|vocab\.(txt|json)|merges\.txt|(chat_template\.jinja)|generation_config\.json"
    r"|model(\.int8|\.fp8)?\.onnx(\.data|\.json)?|model(\.int8|\.fp8)?\.engine(\.json|\.timing)?"
    r"|triton/(README\.md|report\.json)|triton/pumer(_model)?/(config\.pbtxt|labels\.txt|warmup/ones)"
    r"|triton/pumer(_model)?/1/[\w.]+"
    r"|pumer(_model)?/(config\.pbtxt|labels\.txt|warmup/ones)|pumer(_model)?/1/[\w.]+"
)
"""Names in folders of before there were lists."""


def digest(file: Path) -> str:
    """The SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def same(one: Path, other: Path) -> bool:
    """Whether both are files of the same content."""
    return other.is_file() and one.stat().st_size == other.stat().st_size and digest(one) == digest(other)


def write_list(file: Path, values: Mapping[str, Any], hashes: Mapping[str, str]) -> dict[str, Any]:
    """Write `values` as JSON to `file` with the list of files beside it that we wrote, name -> SHA-256; gives what it
    says. The entry of `file` is the hash of its text without the list."""
    told = {**values, LIST: {**hashes, file.name: _own(values)}}
    text = _text(told)
    file.write_text(text, "utf-8")
    again: dict[str, Any] = json.loads(text)
    return again


def write_report(folder: Path, report: Mapping[str, Any], known: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Write report.json to a folder that is otherwise whole, with the list of all that is in it; gives the report.
    `known` are hashes that need not be made again."""
    known = known or {}
    names = [file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*")) if file.is_file()]
    hashes = {name: known.get(name) or digest(folder / name) for name in names}
    return write_list(folder / REPORT, {"format": 1, **report}, hashes)


def listed(file: Path) -> dict[str, str] | None:
    """Name -> SHA-256 of the files that the JSON `file` lists; without an entry of its own when its text was changed.
    {} for one of before there were lists; None for what is not ours."""
    try:
        values = read_object(file)
    except InputError:
        return None
    hashes = values.pop(LIST, None)
    if hashes is None:
        return {} if _earlier(values) else None
    if not isinstance(hashes, dict) or not all(isinstance(value, str) for value in hashes.values()):
        return None
    own = hashes.pop(file.name, None)
    return {**hashes, file.name: ""} if own == _own(values) else hashes


def strangers(folder: Path) -> list[str] | None:
    """What is in a folder that we did not write or that was changed since; None when nothing says that any is ours."""
    lists = {REPORT: listed(folder / REPORT)}
    for pattern in SIDECARS:
        lists |= {file.name: listed(file) for file in folder.glob(pattern)}
    if (folder / TRITON).is_dir():
        lists[f"{TRITON}/{REPORT}"] = listed(folder / TRITON / REPORT)
    if lists[REPORT] is None:
        return None
    hashes: dict[str, str] = {}
    for name, found in lists.items():
        within = f"{TRITON}/" if name.startswith(f"{TRITON}/") else ""
        hashes |= {within + one: value for one, value in (found or {}).items()}
    old = [name for name, found in lists.items() if found == {}]
    return [name for name in _names(folder) if not _ours(folder, name, hashes, old)]


def unproven(folder: Path, sidecar: str, names: Iterable[str]) -> list[str]:
    """Those of the files in a folder of which the sidecar there does not prove that they are ours."""
    found = listed(folder / sidecar)
    if found == {}:
        return []
    hashes = found or {}
    return [name for name in names if not _ours(folder, name, hashes, [])]


def _ours(folder: Path, name: str, hashes: Mapping[str, str], old: Iterable[str]) -> bool:
    file = folder / name
    if file.is_symlink() or not file.is_file():
        return False
    if name in hashes:
        return hashes[name] in ("", digest(file))
    if REPORT in old:
        return EARLIER.fullmatch(name) is not None
    stems = [place.removesuffix(".json") for place in old]
    within = any(place == f"{TRITON}/{REPORT}" for place in old) and name.startswith(f"{TRITON}/")
    known = within or any(name in (stem, f"{stem}.data", f"{stem}.json", f"{stem}.timing") for stem in stems)
    return known and EARLIER.fullmatch(name) is not None


def _names(folder: Path) -> list[str]:
    """All files, and the folders without any, by their path in the folder."""
    found = []
    for entry in sorted(folder.iterdir()):
        within = [] if entry.is_symlink() or not entry.is_dir() else _names(entry)
        found += [f"{entry.name}/{name}" for name in within] or [entry.name]
    return found


def _earlier(values: Mapping[str, Any]) -> bool:
    report = "pumer_convert" in values or {"version", "source", "backend", "models"} <= values.keys()
    return report or (values.get("format") == 1 and ("onnx" in values or "engine" in values))


def _own(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(values).encode()).hexdigest()


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2) + "\n"
