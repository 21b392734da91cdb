"""A data file before its format is known: JSON lines, one JSON document, or a folder."""

import codecs
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.system.json_file import parse_value

Fields = dict[str, Any]
_TABLES = (".csv", ".tsv", ".parquet", ".arrow", ".xlsx", ".lmdb", ".feather")
_HINTS = (
    (
        (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"),
        "is packed; unpack it and name what was in it",
    ),
    (
        _TABLES,
        "a table, which is not read here; write its rows as JSON lines (data/formats/simple.py says their fields), or "
        "read it with the package `datasets` and give the folder of save_to_disk",
    ),
)
"""Endings of files that are none of the formats, and what to do with them."""
_ROWS = ("data", "annotations", "rows", "samples", "examples", "instances")
"""Names under which a document may hold its rows."""


class DataSource:
    """The data at a path. What it is gets found out once, when it is first asked for.

    Raises InputError when there is nothing, or a document is not JSON.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            several = "" if ".." not in path.name else " Shards are given by their folder, not as a range of numbers."
            raise InputError(f"{path}: there is no such file or folder.{several}")
        self.path = path

    @property
    def is_folder(self) -> bool:
        return self.path.is_dir()

    @property
    def other(self) -> str:
        """What to do with a file that by its ending is no JSON, "" for one that may be."""
        hints = (hint for ends, hint in _HINTS if self.path.name.lower().endswith(ends))
        return "" if self.is_folder else next(hints, "")

    @cached_property
    def _content(self) -> tuple[str, Any]:
        """("folder" | "other" | "lines" | "list" | "document", the parsed JSON where it was parsed)."""
        if self.is_folder:
            return "folder", None
        if self.other:
            return "other", None
        first, second = self._first_two_lines()
        try:
            value = parse_value(first)
        except ValueError:
            if self.path.suffix == ".jsonl":
                return "lines", None
            value = self._parse()
        else:
            if second or self.path.suffix == ".jsonl":
                return "lines", None
        return ("list" if isinstance(value, list) else "document"), value

    def _first_two_lines(self) -> tuple[str, str]:
        found: list[str] = []
        try:
            with self.path.open(encoding="utf-8-sig") as lines:
                for line in lines:
                    if line.strip():
                        found.append(line)
                    if len(found) == 2:
                        break
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{self.path}: not readable as UTF-8 text ({error}).") from None
        if not found:
            raise InputError(f"{self.path}: the file is empty.")
        return found[0], found[1] if len(found) > 1 else ""

    def _parse(self) -> Any:
        try:
            return parse_value(self.path.read_text("utf-8-sig"))
        except json.JSONDecodeError as error:
            raise InputError(f"{self.path}:{error.lineno}: not valid JSON ({error.msg}).") from None
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path}: not readable as JSON ({error}).") from None

    @property
    def document(self) -> Fields:
        """The one JSON object that the file is, {} when it is something else."""
        kind, value = self._content
        return value if kind == "document" and isinstance(value, dict) else {}

    @property
    def _held(self) -> str | None:
        """Under which name the document holds rows, None when it is one itself."""
        return next((name for name in _ROWS if isinstance(self.document.get(name), list)), None)

    @cached_property
    def first(self) -> Fields:
        """The first row that can be read, {} when there is none."""
        if self._content[0] in ("folder", "other"):
            return {}
        return next((row for row, _ in self.rows() if isinstance(row, dict)), {})

    def rows(self) -> Iterator[tuple[Fields | InputError, str]]:
        """Every row with its place: of JSON lines, of a list, of a list in a document ({"data": [...]}), or the one
        object of a document."""
        kind, value = self._content
        if kind == "lines":
            yield from self._lines()
            return
        held = self._held
        for i, row in enumerate(value if kind == "list" else [value] if held is None else value[held]):
            where = (
                f"{self.path}:[{i}]"
                if kind == "list"
                else f"{self.path}:1"
                if held is None
                else f"{self.path}:{held}[{i}]"
            )
            yield (row if isinstance(row, dict) else InputError(f"{where}: not a JSON object.")), where

    def _lines(self) -> Iterator[tuple[Fields | InputError, str]]:
        # As bytes, so that one line that is not UTF-8 spoils only itself.
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                where = f"{self.path}:{number}"
                try:
                    row = parse_value(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line)
                except ValueError as error:
                    yield InputError(f"{where}: not valid JSON ({error})."), where
                    continue
                yield (row if isinstance(row, dict) else InputError(f"{where}: not a JSON object.")), where

    @property
    def looks(self) -> str:
        """What was found, for a message about a format that nobody knows."""
        if self.is_folder:
            held = sorted(p.name for p in self.path.iterdir())
            inside = f"a folder with {', '.join(held[:3]) or 'nothing'}{', ...' if len(held) > 3 else ''}"
            files = (file for pattern in ("*", "*/*") for file in self.path.glob(pattern))
            tables = next((file for file in files if file.suffix.lower() in _TABLES), None)
            return inside if tables is None else f"{inside}; {tables.name} is {dict(_HINTS)[_TABLES]}"
        if not self.first and (wrong := next((row for row, _ in self.rows() if isinstance(row, InputError)), None)):
            return str(wrong).removesuffix(".")
        return f"rows with {', '.join(map(str, self.first)) or 'no fields'}"[:400]


def field(row: Fields, name: str, where: str, kind: type | tuple[type, ...] = str) -> Any:
    """The value of a field. Raises InputError when it is missing, empty or of another kind."""
    if row.get(name) is None or row[name] == "":
        raise InputError(f"{where}: the field '{name}' is missing.")
    if not isinstance(row[name], kind):
        raise InputError(f"{where}: the field '{name}' cannot be {json.dumps(row[name], default=str)[:60]}.")
    return row[name]
