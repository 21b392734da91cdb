"""The JSON file beside an engine: what it is, where it runs, and what an app needs to use it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pumer_convert.errors import InputError, MissingDependencyError
from pumer_convert.export.flavour import MODULES
from pumer_convert.json_file import read_object

LEAST_RTX = (8, 0)
"""The oldest GPU that a TensorRT-RTX engine without a chosen target runs on."""


@dataclass(frozen=True)
class Sidecar:
    """The sidecar of the engine at `engine`; see `build_engine` for what it says."""

    engine: Path
    values: dict[str, Any]

    @classmethod
    def of(cls, engine: Path) -> "Sidecar":
        """Read it. Raises InputError when it or the engine is missing, or it is not one of ours."""
        if not engine.is_file():
            raise InputError(f"{engine}: there is no such engine.")
        file = engine.with_name(engine.name + ".json")
        if not file.is_file():
            raise InputError(f"{engine}: its sidecar {file.name} is missing; copy it along, or export once more.")
        values = read_object(file)
        try:
            found = cls(engine, values)
            if values["format"] != 1:
                raise InputError(f"{file}: written by a newer pumer-convert (format {values['format']}); update.")
            _ = (found.flavour, found.picture, found.labels, found.profiles, values["engine"]["sha256"])
        except (ValueError, KeyError, TypeError, IndexError, OSError):
            raise InputError(f"{file}: not a sidecar that pumer-convert wrote; export the engine once more.") from None
        return found

    @property
    def flavour(self) -> str:
        """ "tensorrt" or "tensorrt-rtx"."""
        return MODULES[self.values["flavour"]][0] and str(self.values["flavour"])

    @property
    def picture(self) -> tuple[int, ...]:
        """Shape of one example's pixels."""
        return tuple(self._input("pixel_values")["shape"][1:])

    @property
    def labels(self) -> int:
        """Number of logits."""
        return int(self.values["outputs"][0]["shape"][1])

    @property
    def profiles(self) -> list[tuple[tuple[int, int, int], tuple[int, int, int]]]:
        """Of each profile (smallest, fastest, largest) batch and text."""
        shapes = [profile["input_ids"] for profile in self.values["profiles"]]
        return [((a[0], b[0], c[0]), (a[1], b[1], c[1])) for a, b, c in shapes]

    def profile(self, batch: int, text: int) -> int:
        """The profile for a shape: of those that hold it, the one made for the nearest. Raises InputError for none."""
        holding = [
            (abs(batch - sizes[1]) / sizes[1] + abs(text - lengths[1]) / lengths[1], index)
            for index, (sizes, lengths) in enumerate(self.profiles)
            if sizes[0] <= batch <= sizes[2] and lengths[0] <= text <= lengths[2]
        ]
        if not holding:
            ranges = " or ".join(f"batch {b[0]} to {b[2]} with text {t[0]} to {t[2]}" for b, t in self.profiles)
            raise InputError(f"{self.engine}: batch {batch} with text {text} is outside of it; it takes {ranges}.")
        return min(holding)[1]

    def check_engine(self) -> None:
        """Raises InputError when the engine is not the file that the sidecar was written for."""
        with self.engine.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.values["engine"]["sha256"]:
            raise InputError(
                f"{self.engine}: not the engine of its sidecar, or damaged; copy both again or export anew."
            )

    def check_version(self, version: str) -> None:
        """Raises MissingDependencyError when the engine was built by another version than `version`."""
        built = str(self.values["tensorrt_version"])
        if built != version and not self.values.get("version_compatible"):
            raise MissingDependencyError(
                f"{self.engine}: built by {self.flavour} {built}, and {version} is here; install that version "
                "or build the engine again."
            )

    def check_capability(self, capability: tuple[int, int]) -> None:
        """Raises MissingDependencyError when a GPU of this compute capability cannot run the engine."""
        targets = self.values["compute_capabilities"]
        here = "{}.{}".format(*capability)
        if isinstance(targets, str):  # TensorRT-RTX's default, in words
            fits = capability >= LEAST_RTX
        elif self.flavour == "tensorrt-rtx":
            fits = here in targets
        else:
            fits = here in targets or not targets or bool(self.values.get("hardware_compatible"))
        if not fits:
            built = targets if isinstance(targets, str) else ", ".join(targets)
            raise MissingDependencyError(
                f"{self.engine}: built for compute capability {built}, and this GPU is {here}; build it for this one."
            )

    def _input(self, name: str) -> dict[str, Any]:
        return next(dict(entry) for entry in self.values["inputs"] if entry["name"] == name)
