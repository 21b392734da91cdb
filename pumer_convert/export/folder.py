"""Exporting a checkpoint folder: ONNX, then an engine, by the settings of its recipe."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.child import LostError, in_child
from pumer_convert.errors import InputError
from pumer_convert.export.describe import describe
from pumer_convert.files.partial import recover
from pumer_convert.files.stop import deferred
from pumer_convert.heap import give_back_at_once
from pumer_convert.plan import family_module
from pumer_convert.recipe import ExportSettings, Profile, load_recipe

if TYPE_CHECKING:
    from pumer_convert.export.tensorrt import EngineSettings
    from pumer_convert.verify import Case


FUSED = 23
"""The opset from which on attention is one node, which TensorRT runs by a fused kernel or refuses."""


def converted_folder(here: Path) -> Path:
    """`here` when it is a converted checkpoint, else the one directly under it. Raises InputError otherwise."""
    if (here / "report.json").exists():
        return here
    found = [path.parent for path in sorted(here.glob("*/report.json"))]
    if len(found) != 1:
        what = f"{len(found)} converted checkpoints" if found else "no converted checkpoint"
        raise InputError(f"{here}: {what} here; name the one to export.")
    return found[0]


def settings_of(folder: Path) -> ExportSettings:
    """The `export:` section of the recipe in a converted folder; defaults where there is none."""
    recipe = folder / "recipe.yaml"
    return load_recipe(recipe).export if recipe.exists() else ExportSettings()


def _silent(line: str) -> None:
    """Says nothing; a function of a module, as `in_child` needs it."""


def export_folder(
    path: Path,
    out: Path | None = None,
    *,
    trt: "EngineSettings | None" = None,
    dtype: str | None = None,
    image_size: Any = None,
    opset: int = 20,
    overwrite: bool = False,
    progress: Callable[[str], None] = _silent,
    engine_progress: Callable[[str, int, int], None] | None = None,
    apart: bool = False,
) -> dict[str, Any]:
    """Write model.onnx, and an engine built as `trt` says, to `out` (default: the checkpoint's folder), with sidecars.

    To another folder the files of tokenizer and processor go along.
    Without profiles of its own an engine has the recipe's. `engine_progress` is called as it is built (see
    `build_engine`). `apart` runs all but the engine in a process of its own, so that the builder finds the memory
    free; as ever with multiprocessing, the main module must be importable and `progress` a function of a module then.
    Raises InputError, VerificationError or MissingDependencyError; no file is left by the step that failed.
    """
    settings = settings_of(path)
    folder = out if out is not None else (path if path.is_dir() else path.parent)
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder; make it first or choose another with -o.")
    onnx_file = folder / "model.onnx"
    engine_file = folder / "model.engine"
    if trt is not None and engine_file.exists() and not overwrite:
        raise InputError(f"{engine_file}: exists already; use --overwrite.")
    chosen = dtype or settings.dtype
    if trt is not None and opset >= FUSED and chosen == "float32":
        raise InputError(
            f"TensorRT has no fused kernel for opset {opset}'s attention in float32; export in half precision "
            "(--dtype float16 or bfloat16), or at opset 20."
        )
    run = _apart if apart else _export
    made = run(
        path,
        onnx_file,
        settings,
        trt.profiles if trt is not None else (),
        dtype=chosen,
        image_size=image_size,
        opset=opset,
        overwrite=overwrite,
        progress=progress,
    )
    report = made.report
    if folder.resolve() != made.path.resolve():
        for file in made.companions:  # the tokenizer, without which `Pipeline` takes no text
            shutil.copy(file, folder)
    if trt is None:
        return report
    progress("building the engine")
    report["engine"] = engine_beside(
        onnx_file, replace(trt, profiles=made.profiles), made.sidecar, overwrite=overwrite, progress=engine_progress
    )
    return report


def engine_beside(
    onnx_file: Path,
    settings: "EngineSettings",
    sidecar: Mapping[str, Any],
    *,
    overwrite: bool,
    progress: Callable[[str, int, int], None] | None,
) -> dict[str, Any]:
    """Build an engine beside an ONNX file, as `build_engine` does; gives what a report tells of it."""
    from pumer_convert.export.tensorrt import build_engine

    engine_file = onnx_file.with_suffix(".engine")
    made = build_engine(onnx_file, engine_file, settings, sidecar=sidecar, overwrite=overwrite, progress=progress)
    return {
        "path": str(engine_file),
        "bytes": made["engine"]["bytes"],
        "flavour": made["flavour"],
        "version": made["tensorrt_version"],
    }


def verify_export(path: Path, onnx_file: Path | None = None, cases: "tuple[Case, ...] | None" = None) -> dict[str, Any]:
    """Compare an exported file with the checkpoint it was made from. Raises VerificationError when they differ."""
    from pumer_convert.verify import verify_onnx

    onnx_file = onnx_file or path / "model.onnx"
    if not onnx_file.exists():
        raise InputError(f"{onnx_file}: there is no such file; run `pumer-convert export` first.")
    return {"onnx": str(onnx_file), **verify_onnx(onnx_file, open_checkpoint(path), cases)}


@dataclass(frozen=True)
class _Exported:
    """The report, and what has to be known of the checkpoint for an engine: it is opened where torch is anyway."""

    report: dict[str, Any]
    sidecar: dict[str, Any]
    profiles: tuple[Profile, ...]
    path: Path
    companions: tuple[Path, ...]


def _export(path: Path, out: Path, settings: ExportSettings, given: tuple[Profile, ...], **how: Any) -> _Exported:
    from pumer_convert.export.onnx import export_onnx

    checkpoint = open_checkpoint(path)
    longest = family_module(checkpoint.family).outline(checkpoint.config).max_text
    profiles = profiles_of(settings, given, longest)
    report = export_onnx(path, out, **how)
    sidecar = describe(checkpoint, report["image_size"])
    return _Exported(report, sidecar, profiles, checkpoint.path, tuple(checkpoint.companions))


def _export_apart(*where: Any, **how: Any) -> _Exported:
    give_back_at_once()
    return _export(*where, **how)


def _apart(path: Path, out: Path, *where: Any, **how: Any) -> _Exported:
    try:
        return in_child(partial(_export_apart, path, out, *where, **how))
    except LostError:
        raise InputError(f"{path}: the export was killed by the system, most likely for want of memory.") from None
    finally:
        with deferred():
            recover(out)  # a process that was killed cannot tidy up


def profiles_of(settings: ExportSettings, given: tuple[Profile, ...], longest: int) -> tuple[Profile, ...]:
    """The profiles that are `given`, else the recipe's, cut to the model's longest text. Raises InputError for given
    ones that go beyond it."""
    if given and max(profile.text[2] for profile in given) > longest:
        raise InputError(f"a profile's text is longer than the {longest} tokens that the model takes.")

    def fit(profile: Profile) -> Profile:
        least, best, most = (min(n, longest) for n in profile.text)
        return replace(profile, text=(least, best, most))

    return given or tuple(fit(profile) for profile in settings.profiles)
