"""The JSON file beside an engine: what it is, where it runs, and what an app needs to use it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pumer_convert.artifact.sidecar import outputs_of
from pumer_convert.artifact.tensorrt_flavours import MODULES
from pumer_convert.errors import InputError, MissingDependencyError
from pumer_convert.models.signature import Signature, signature_of
from pumer_convert.system.json_file import read_object

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
            _ = (found.flavour, found.signature, found.profiles, values["engine"]["sha256"])
        except (ValueError, KeyError, TypeError, IndexError, OSError):
            raise InputError(f"{file}: not a sidecar that pumer-convert wrote; export the engine once more.") from None
        return found

    @property
    def flavour(self) -> str:
        """ "tensorrt" or "tensorrt-rtx"."""
        return MODULES[self.values["flavour"]][0] and str(self.values["flavour"])

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        inputs = {entry["name"]: entry["shape"] for entry in self.values["inputs"]}
        return signature_of(inputs, outputs_of(self.values), self.values)

    @property
    def profiles(self) -> list[dict[str, tuple[int, int, int]]]:
        """Of each profile (smallest, fastest, largest) of every dynamic side: batch and perhaps text and patches."""
        dynamic = {
            side: (entry["name"], place)
            for entry in reversed(self.values["inputs"])  # the first that has it tells of a side
            for place, side in enumerate(entry["shape"])
            if isinstance(side, str)
        }

        def side(shapes: dict[str, list[list[int]]], name: str, place: int) -> tuple[int, int, int]:
            least, best, most = (shape[place] for shape in shapes[name])
            return least, best, most

        return [{key: side(shapes, *where) for key, where in dynamic.items()} for shapes in self.values["profiles"]]

    def profile(self, **sides: int) -> int:
        """The profile for these sides: of those that hold them, the one made for the nearest.
        Raises InputError for none."""
        holding = [
            (sum(abs(sides[side] - best) / best for side, (_, best, _) in profile.items()), index)
            for index, profile in enumerate(self.profiles)
            if all(least <= sides[side] <= most for side, (least, _, most) in profile.items())
        ]
        if not holding:
            ranges = " or ".join(
                " with ".join(f"{side} {least} to {most}" for side, (least, _, most) in sorted(profile.items()))
                for profile in self.profiles
            )
            asked = " with ".join(f"{side} {size}" for side, size in sorted(sides.items()))
            raise InputError(f"{self.engine}: {asked} is outside of it; it takes {ranges}.")
        return min(holding)[1]

    @property
    def least_patches(self) -> int:
        """Up to this many patches smaller pictures are filled up with zeros, 1 where pictures have one size."""
        return min(profile.get("patches", (1,))[0] for profile in self.profiles)

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
