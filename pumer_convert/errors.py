"""What can go wrong, as sentences for the user; each class carries the exit code of the command line."""

from collections.abc import Iterable
from difflib import get_close_matches


class PumerError(Exception):
    """Base of every error that is the user's to mend: one sentence saying what was wrong and what to do."""

    exit_code = 2


class InputError(PumerError):
    """A checkpoint, recipe, option or output place that cannot be used as it is (exit code 2)."""


class UnjudgedError(InputError):
    """A row of data that its makers could not agree on: it is left out, as everyone does, and counted."""


class VerificationError(PumerError):
    """A stage's result does not equal what it was made from (exit code 3)."""

    exit_code = 3


class MissingDependencyError(PumerError):
    """A package or device that this step needs is not there (exit code 4)."""

    exit_code = 4


EXTRAS = {
    **dict.fromkeys(("torch", "transformers", "safetensors", "sentencepiece"), ("convert",)),
    **dict.fromkeys(("onnx", "onnxscript", "onnx_ir"), ("export",)),
    "accelerate": ("train",),
    "matplotlib": ("plot",),
    "onnxruntime": ("cpu", "gpu"),
    "openvino": ("openvino",),
}
"""Package -> the extras of pumer-convert that bring it; one of them will do."""


def missing(error: ImportError) -> MissingDependencyError | None:
    """What to tell of an import that failed; None where the package is none of those that an extra brings."""
    package = (error.name or "").split(".")[0]
    if package not in EXTRAS:
        return None
    return MissingDependencyError(f"this needs the package {package}, which is not installed: {ways_to(package)}.")


def ways_to(package: str) -> str:
    """The commands of which each installs one of `EXTRAS`."""
    return " or ".join(f"pip install 'pumer-convert[{extra}]'" for extra in EXTRAS[package])


def nearest(word: str, allowed: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` for the spelling in `allowed` nearest to `word`, or an empty string."""
    close = get_close_matches(word, list(allowed), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""
