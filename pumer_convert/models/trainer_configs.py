"""The files that a training was told by, beside its weights."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from pumer_convert.errors import InputError
from pumer_convert.system.json_file import read_object

_LARGEST = 2**20
"""Bytes of the largest file that can be one."""


def configs_beside(place: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """The files in a folder that a training may have been told by, config.json first and then those of YAML, with what
    they say; what cannot be read is of something else."""
    for file in (place / "config.json", *sorted(place.glob("*.yaml")), *sorted(place.glob("*.yml"))):
        if not file.is_file() or file.stat().st_size > _LARGEST:
            continue
        try:
            values = read_object(file) if file.suffix == ".json" else yaml.safe_load(file.read_bytes())
        except (InputError, yaml.YAMLError, RecursionError, ValueError, OSError):
            continue
        if isinstance(values, Mapping):
            yield file, values
