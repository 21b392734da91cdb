"""Exporting a checkpoint folder: ONNX, then an engine, by the settings of its recipe."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pumer_convert.artifact.describe import PARTS, differing, promise
from pumer_convert.artifact.sidecar import read_sidecar
from pumer_convert.checkpoint.companions import TOKENIZERS
from pumer_convert.checkpoint.locate import EXPORTED, own_folder, resolve
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.load import HALF, export_settings_of, kept_float32, looping_kinds
from pumer_convert.data.served_tokenizer import served_form
from pumer_convert.data.tokenizer import check_fits
from pumer_convert.errors import InputError, VerificationError
from pumer_convert.export.reuse import stale, standing_engine, standing_onnx, without_list
from pumer_convert.export.triton.config import check_backend
from pumer_convert.models.family import family_of
from pumer_convert.recipe.schema import ExportSettings, Profile
from pumer_convert.system.child_process import LostError, in_child
from pumer_convert.system.heap import give_back_at_once
from pumer_convert.system.output import check_out
from pumer_convert.system.partial import recover
from pumer_convert.system.paths import check_utf8
from pumer_convert.system.signals import deferred
from pumer_convert.weights import Checkpoint

if TYPE_CHECKING:
    from pumer_convert.export.tensorrt import EngineSettings
    from pumer_convert.verification.verify import Case


T = TypeVar("T")
ATTENTION_OPSET = 23
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


def _silent(line: str) -> None:
    """Says nothing; a function of a module, as `in_child` needs it."""


def export_folder(
    path: Path | str,
    out: Path | str | None = None,
    *,
    trt: "EngineSettings | None" = None,
    triton: str | None = None,
    joint: bool = False,
    dtype: str | None = None,
    keep_float32: Sequence[str] | None = None,
    image_size: Any = None,
    opset: int = 20,
    inline_functions: bool = False,
    overwrite: bool = False,
    progress: Callable[[str], None] = _silent,
    engine_progress: Callable[[str, int, int], None] | None = None,
    in_subprocess: bool = False,
) -> dict[str, Any]:
    """Write model.onnx, and an engine built as `trt` says, to `out` (default: the checkpoint's folder), with sidecars,
    of a model of several graphs a file for each, named after it, and for `joint` model.onnx, which has two towers in
    one and compares all pictures with all texts;
    and a model repository for `triton`, which is the backend that runs the tensors (see `export_triton`) or "auto":
    "tensorrt" for an engine of TensorRT, else "onnxruntime".

    To another folder, made if need be, the files of tokenizer and processor go along. A verified model.onnx of the same
    checkpoint and options that is there already is built on, and so is an engine; without `overwrite` nothing else is
    replaced. The report's "notes" name what was made from an earlier model.onnx; of several graphs it has the reports
    as "graphs", by name.
    `inline_functions` see `export_onnx`; `keep_float32` too (None: the layers that the recipe names). Without profiles
    of its own an engine has the recipe's. `engine_progress` is called as it is built (see `build_engine`).

    `in_subprocess` runs every stage in a process of its own: the builder finds the memory free and may crash, and
    whatever interrupts this process finds it where it can be interrupted, as torch cannot be in the middle of a trace.
    `progress` is a function of a module then, and `engine_progress` travels as well.
    Raises InputError, VerificationError or MissingDependencyError; no file is left by the step that failed.
    """
    path = resolve(path)
    folder = Path(out) if out is not None else own_folder(path)
    checkpoint = open_checkpoint(path)
    settings = export_settings_of(checkpoint)
    names = _graphs(checkpoint, joint)
    check_utf8(folder / f"{names[0]}.onnx")
    chosen = dtype or settings.dtype
    repository = folder / "triton"
    if triton == "tensorrt" and trt is None:
        raise InputError("Triton's backend tensorrt runs an engine; say --trt as well.")
    if triton is not None:
        if triton != "auto":
            check_backend(triton)
        if folder.is_dir():
            check_out(repository, overwrite)
    run: Callable[..., _Exported] = _in_subprocess if in_subprocess else _export
    if keep_float32 and chosen not in HALF:
        raise InputError(f"layers are kept in float32 of an export in half precision, and this one is in {chosen}.")
    kept = kept_float32(checkpoint, chosen, settings.keep_float32 if keep_float32 is None else keep_float32)
    stacked = [name for name in kept if "." in name]
    if trt is not None and opset >= ATTENTION_OPSET and (stacked or chosen not in HALF):
        half = "in half precision (--dtype float16 or bfloat16)"
        way = f"without keeping {', '.join(stacked)} in it" if stacked else half
        raise InputError(
            f"TensorRT has no fused kernel for opset {opset}'s attention in float32; export {way}, or at opset 20."
        )
    if trt is not None and opset >= ATTENTION_OPSET and (looped := looping_kinds(checkpoint)):
        raise InputError(
            f"TensorRT's builder crashes on opset {opset}'s attention beside the loop of {' and '.join(looped)}; "
            "export at opset 20."
        )
    how: dict[str, Any] = {"dtype": chosen, "keep_float32": kept, "image_size": image_size, "opset": opset}
    how |= {"inline_functions": inline_functions, "overwrite": overwrite, "progress": progress}
    reports = {}
    for name in names:
        onnx_file = folder / f"{name}.onnx"
        with _made(folder):
            made = run(checkpoint, onnx_file, name, settings, trt.profiles if trt is not None else (), **how)
        report = reports[name] = made.report
        if trt is not None:
            progress("building the engine")
            build = replace(trt, profiles=made.profiles)
            report["engine"] = engine_beside(
                onnx_file, build, made.sidecar, overwrite=overwrite, progress=engine_progress, alone=in_subprocess
            )
        told = f"was made from the {onnx_file.name} of before; make it anew"
        report["notes"] = [f"{file} {told}" for file in stale(onnx_file)]
    if len(reports) > 1:
        report = {"graphs": reports, "notes": [note for one in reports.values() for note in one.pop("notes")]}
    if triton is not None:
        served = [reports[name] for name in _graphs(checkpoint)]
        report["triton"] = _repository(triton, served, repository, overwrite)
    return report


def _graphs(checkpoint: Checkpoint, joint: bool = False) -> tuple[str, ...]:
    """The names of the graphs that a checkpoint is exported as, behind them the `joint` one if that is asked for.
    Raises InputError where there is none."""
    spec = family_of(checkpoint.family).spec(checkpoint.config)
    names = tuple(graph.name for graph in spec.graphs)
    if not joint:
        return names
    if spec.joint is None:
        raise InputError(f"{checkpoint.path}: has no two towers to join in one graph; leave joint out.")
    return (*names, spec.joint.name)


def _repository(triton: str, graphs: Sequence[Mapping[str, Any]], out: Path, overwrite: bool) -> dict[str, Any]:
    from pumer_convert.export.triton import export_triton

    backend = triton
    if triton == "auto":
        flavours = {graph.get("engine", {"flavour": None})["flavour"] for graph in graphs}
        backend = "tensorrt" if flavours == {"tensorrt"} else "onnxruntime"
    exported = [graph["engine"]["path"] if backend == "tensorrt" else graph["onnx"] for graph in graphs]
    return export_triton(exported, out, backend=backend, overwrite=overwrite)


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """The folder, made if need be, and gone again if nothing came to be in it."""
    if folder.is_dir():
        yield
        return
    if folder.suffix in EXPORTED:
        raise InputError(f"{folder}: -o takes the folder that model{folder.suffix} goes to, not the name of the file.")
    try:
        folder.mkdir()
    except FileExistsError:
        raise InputError(f"{folder}: not a folder; choose another with -o.") from None
    except FileNotFoundError:
        raise InputError(f"{folder}: its parent folder does not exist.") from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror}).") from None
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise


def engine_beside(
    onnx_file: Path,
    settings: "EngineSettings",
    sidecar: Mapping[str, Any],
    *,
    overwrite: bool,
    progress: Callable[[str, int, int], None] | None,
    alone: bool = False,
) -> dict[str, Any]:
    """Build an engine beside an ONNX file, as `build_engine` does, `alone` in a process of its own; gives what a report
    tells of it."""
    from pumer_convert.artifact.tensorrt_flavours import choose_flavour
    from pumer_convert.export.tensorrt import build_engine

    engine_file = onnx_file.with_suffix(".engine")
    made = None
    if not overwrite and engine_file.exists():
        flavour, package = choose_flavour(settings.flavour, asdict(settings))
        made = standing_engine(engine_file, onnx_file, replace(settings, flavour=flavour), package.__version__)
    there = made is not None
    if made is None:
        how: dict[str, Any] = {"sidecar": dict(sidecar), "overwrite": overwrite, "progress": progress}
        build = partial(build_engine, onnx_file, engine_file, settings, **how)
        lost = f"{onnx_file}: the builder of its engine ended without a word: it crashed, or wanted too much memory."
        made = _alone(build, engine_file, lost) if alone else build()
    return {
        "path": str(engine_file),
        "bytes": made["engine"]["bytes"],
        "flavour": made["flavour"],
        "version": made["tensorrt_version"],
        "there_already": there,
    }


def verify_export(
    path: Path | str, onnx_file: Path | str | None = None, cases: "Sequence[Case] | None" = None
) -> dict[str, Any]:
    """Compare an exported file (default: all of the checkpoint's, in its folder) and its sidecar with the checkpoint
    they were made from, on the batches of `cases` (see `Case`; default: several). Gives the report. Raises
    VerificationError when they differ, InputError when one is missing."""
    path = resolve(path)
    folder, checkpoint = path if path.is_dir() else path.parent, open_checkpoint(path)
    if onnx_file is not None:
        return _verify(checkpoint, Path(onnx_file), cases)
    names = _graphs(checkpoint)
    if (both := family_of(checkpoint.family).spec(checkpoint.config).joint) is not None:
        names += (both.name,) if (folder / f"{both.name}.onnx").exists() else ()
    reports = {name: _verify(checkpoint, folder / f"{name}.onnx", cases) for name in names}
    return {"graphs": reports} if len(reports) > 1 else next(iter(reports.values()))


def _verify(checkpoint: Checkpoint, onnx_file: Path, cases: "Sequence[Case] | None") -> dict[str, Any]:
    from pumer_convert.verification.verify import verify_onnx

    if not onnx_file.exists():
        raise InputError(f"{onnx_file}: there is no such file; run `pumer-convert export` first.")
    sidecar = onnx_file.with_name(onnx_file.name + ".json")
    values = read_sidecar(onnx_file) if sidecar.exists() else {}
    if changed := differing(values, checkpoint):
        raise VerificationError(
            f"{sidecar}: its {' and '.join(changed)} are not those of the checkpoint's files now; export once more "
            "with --overwrite."
        )
    asked, graph = (values.get("pictures") or {}).get("asked"), values.get("graph")
    report = verify_onnx(onnx_file, checkpoint, cases, asked, graph, values.get("keep_float32", ()))
    return {"onnx": str(onnx_file), "graph": graph or "model", **report}


@dataclass(frozen=True)
class _Exported:
    """The report, and what has to be known of the checkpoint for an engine: it is opened where torch is anyway."""

    report: dict[str, Any]
    sidecar: dict[str, Any]
    profiles: tuple[Profile, ...]


def _export(
    checkpoint: Checkpoint,
    out: Path,
    graph: str,
    settings: ExportSettings,
    given: tuple[Profile, ...],
    *,
    dtype: str,
    keep_float32: tuple[str, ...],
    image_size: Any,
    opset: int,
    inline_functions: bool,
    overwrite: bool,
    progress: Callable[[str], None],
) -> _Exported:
    spec = family_of(checkpoint.family).spec(checkpoint.config)
    text = spec.graph(graph).text
    elsewhere = out.parent.resolve() != checkpoint.path.resolve()
    if text and elsewhere and any(file.name in TOKENIZERS for file in checkpoint.companions):
        check_fits(checkpoint.companions[0].parent, checkpoint.family, checkpoint.config)  # it goes along
    profiles = profiles_of(settings, given, spec.max_text if text else None)
    home = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
    # The tokenizer, without which `Pipeline` takes no text.
    companions = tuple(checkpoint.companions) if out.parent.resolve() != home.resolve() else ()
    served = served_form(checkpoint, out.name) if text else None
    kept = kept_float32(checkpoint, dtype, keep_float32, graph)
    wanted = promise(checkpoint, dtype, image_size, opset, served, inline_functions, graph, kept)
    report = None if overwrite else standing_onnx(out, wanted, PARTS, companions)
    if report is not None:
        progress(f"going on from the verified {out.name}")
    else:
        from pumer_convert.export.onnx import export_onnx

        how: dict[str, Any] = {"graph": graph, "dtype": dtype, "image_size": image_size, "opset": opset}
        how |= {"inline_functions": inline_functions, "keep_float32": kept}
        report = export_onnx(checkpoint, out, **how, overwrite=overwrite, companions=companions, progress=progress)
    return _Exported(report, without_list(read_sidecar(out)), profiles)


def _export_alone(path: Path, *where: Any, **how: Any) -> _Exported:
    give_back_at_once()
    return _export(open_checkpoint(path), *where, **how)


def _in_subprocess(checkpoint: Checkpoint, out: Path, *where: Any, **how: Any) -> _Exported:
    lost = f"{checkpoint.path}: the export was killed by the system, most likely for want of memory."
    return _alone(partial(_export_alone, checkpoint.path, out, *where, **how), out, lost)


def _alone(work: Callable[[], T], out: Path, lost: str) -> T:
    """What `work`, which writes `out`, gives in a process of its own. Raises InputError that says `lost` when that ends
    without a word."""
    try:
        return in_child(work)
    except LostError:
        raise InputError(lost) from None
    finally:
        with deferred():
            recover(out)  # a process that was killed cannot tidy up


def profiles_of(settings: ExportSettings, given: tuple[Profile, ...], longest: int | None) -> tuple[Profile, ...]:
    """The profiles that are `given`, else the recipe's, cut to the model's longest text (None: it takes none). Raises
    InputError for given ones that go beyond it."""
    if longest is None:
        return given or tuple(settings.profiles)
    if given and max(profile.text[2] for profile in given) > longest:
        raise InputError(f"a profile's text is longer than the {longest} tokens that the model takes.")

    def fit(profile: Profile) -> Profile:
        least, best, most = (min(n, longest) for n in profile.text)
        return replace(profile, text=(least, best, most))

    return given or tuple(fit(profile) for profile in settings.profiles)
