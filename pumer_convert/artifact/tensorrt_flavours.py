"""The two kinds of TensorRT: which is here, and what each can be asked for. The builder's code is one for both."""

import functools
import importlib
import logging
import warnings
from pathlib import Path
from typing import Any

from pumer_convert.errors import InputError, MissingDependencyError, nearest

log = logging.getLogger("pumer_convert.tensorrt")

MODULES = {"tensorrt": ("tensorrt", "trt"), "tensorrt-rtx": ("tensorrt_rtx", "rtx")}  # and the extra that installs it
GPU = (Path("/dev/nvidia0"), Path("/dev/nvidiactl"), Path("/proc/driver/nvidia/version"), Path("/dev/dxg"))
NO_GPU = "CUDA driver version is insufficient"  # said beside every true error where there is no GPU

ONLY = {
    "compute_capabilities": ("tensorrt-rtx", "TensorRT builds for the GPU it runs on"),
    "hardware_compatible": ("tensorrt", "a TensorRT-RTX engine names its targets (--compute-capability)"),
    "version_compatible": ("tensorrt", "a TensorRT-RTX engine runs in the version that built it"),
}
"""Settings that one flavour alone has, and why the other has not. Besides, TensorRT needs the GPU that it builds for,
uses a timing cache (a TensorRT-RTX engine is tuned where it runs), and TensorRT-RTX needs a GPU to strip weights."""


def has_gpu() -> bool:
    """Is an NVIDIA GPU here? Asked of the system, so that no CUDA library is loaded for it."""
    return any(path.exists() for path in GPU)


def import_flavour(flavour: str) -> Any:
    """The module of "tensorrt" or "tensorrt-rtx". Raises MissingDependencyError with the line that installs it."""
    name, extra = MODULES[flavour]
    try:
        return _import(name)
    except (ImportError, OSError) as error:
        why = f"engines need {flavour} ({' '.join(str(error).split())})"
        raise MissingDependencyError(f"{why}; install it with: pip install 'pumer-convert[{extra}]'") from None


def choose_flavour(flavour: str, asked: dict[str, Any]) -> tuple[str, Any]:
    """The name and the module of the flavour to build with; "auto" is TensorRT where it and a GPU are.

    `asked` are the settings; those of `ONLY` that are set decide "auto" too. Raises InputError for a setting that the
    flavour has not, MissingDependencyError for want of the package or its GPU.
    """
    if flavour not in ("auto", *MODULES):
        raise InputError(f"there is no engine flavour '{flavour}'.{nearest(flavour, ('auto', *MODULES))}")
    wanted = {name: ONLY[name][0] for name in ONLY if asked.get(name)}
    if flavour == "auto":
        flavour = next(iter(wanted.values()), "") or _found()
    for name, home in wanted.items():
        if home != flavour:
            raise InputError(f"{name.replace('_', ' ')}: only {home} has that; {ONLY[name][1]}.")
    trt = import_flavour(flavour)
    if not has_gpu() and flavour == "tensorrt":
        raise MissingDependencyError("TensorRT builds on the GPU it is for, and none is here; use tensorrt-rtx.")
    if not has_gpu() and asked.get("strip_weights"):
        raise MissingDependencyError("an engine without weights can only be built where a GPU is, and none is here.")
    return flavour, trt


@functools.cache
def logger_of(trt: Any) -> Any:
    """The logger of a module: TensorRT's talk goes to our log; its errors (a good build has some too) are kept.

    One for the whole process, because TensorRT keeps the first that it is given as long as anything made with it
    lives, and calls it even after Python has thrown it away.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(one_line(message))
            quiet = severity in (trt.ILogger.INFO, trt.ILogger.VERBOSE)
            log.log(logging.DEBUG if quiet else logging.INFO, "%s", message)

        def why(self) -> str:
            """The last errors, for a sentence to the user."""
            return "; ".join([*dict.fromkeys(filter(None, self.errors))][-2:]) or "it gave no reason"

    return Logger()


def one_line(message: str) -> str:
    """TensorRT's message on one line, without what it always says where there is no GPU."""
    return " ".join(" ".join(line for line in message.splitlines() if NO_GPU not in line).split())


def _found() -> str:
    if has_gpu():
        try:
            _import("tensorrt")
            return "tensorrt"
        except (ImportError, OSError) as error:
            log.info("tensorrt cannot be used (%s), so tensorrt-rtx is", error)
    return "tensorrt-rtx"


def _import(name: str) -> Any:
    with warnings.catch_warnings():
        # Bindings made by SWIG, and older ones under a newer Python, warn about themselves while they load.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        return importlib.import_module(name)
