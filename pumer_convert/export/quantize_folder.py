"""The 8-bit model of an exported folder: real examples are read, the ONNX file is quantized, an engine is built."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pumer_convert.artifact.sidecar import outputs_of, read_sidecar
from pumer_convert.data.examples import read_examples
from pumer_convert.errors import InputError
from pumer_convert.export.folder import engine_beside, profiles_of
from pumer_convert.export.quantize import CPU, modelopt_version, quantize
from pumer_convert.image_processor.open_picture import MAX_PIXELS
from pumer_convert.models.signature import LOGITS
from pumer_convert.recipe.schema import export_settings

if TYPE_CHECKING:
    from pumer_convert.export.tensorrt import EngineSettings


def quantize_folder(
    folder: Path | str,
    data: Path | str,
    *,
    mode: str = "int8",
    modelopt: Path | str | None = None,
    trt: "EngineSettings | None" = None,
    examples: int = 256,
    images: Path | str | None = None,
    split: str | None = None,
    seed: int = 0,
    on_error: str = "raise",
    max_pixels: int = MAX_PIXELS,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda line: None,
    engine_progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """`quantize` the model.onnx that `export_folder` wrote to `folder` on `examples` samples of `data`, which `seed`
    draws, and build an engine from the result as `trt` says.

    `mode` and `modelopt` are those of `quantize`; `data`, `images`, `split`, `on_error` and `max_pixels` those of
    `read_samples`. Without profiles of its own an engine has the recipe's. Gives the report. Raises what `quantize` and
    `build_engine` raise; no file is left by the step that failed.
    """
    folder = Path(folder)
    if folder.is_file():
        raise InputError(f"{folder}: a file; name the folder in which `export` wrote model.onnx.")
    source = folder / "model.onnx"
    if not source.exists() and (others := sorted(folder.glob("*.onnx.json"))):
        raise _unanswering(folder, ", ".join(file.name.removesuffix(".json") for file in others) + " and no model.onnx")
    sidecar = read_sidecar(source)
    if LOGITS not in (names := [port.name for port in outputs_of(sidecar)]):
        raise _unanswering(folder, f"{source.name} gives {', '.join(names)}")
    # All that can be refused is, before the data are read, which takes minutes.
    if mode != CPU:
        modelopt_version(modelopt)
    elif trt is not None or modelopt is not None:
        raise InputError(f"{CPU} is for ONNX Runtime on CPUs; an engine takes int8 or fp8, by --modelopt.")
    if trt is not None:
        trt = replace(trt, profiles=profiles_of(export_settings(folder), trt.profiles, sidecar["text"]["longest"]))
    for suffix in ("onnx",) if trt is None else ("onnx", "engine"):
        if (file := folder / f"model.{mode}.{suffix}").exists() and not overwrite:
            raise InputError(f"{file}: exists already; use --overwrite.")
    inputs = read_examples(
        sidecar,
        folder,
        data,
        examples,
        images=images,
        split=split,
        seed=seed,
        on_error=on_error,
        max_pixels=max_pixels,
        progress=progress,
    )
    report = quantize(source, inputs, mode=mode, modelopt=modelopt, overwrite=overwrite, progress=progress)
    if trt is not None:
        progress("building the engine")
        file = Path(report["onnx"])
        report["engine"] = engine_beside(file, trt, read_sidecar(file), overwrite=overwrite, progress=engine_progress)
    return report


def _unanswering(folder: Path, what: str) -> InputError:
    return InputError(
        f"{folder}: {what}; data are read for models that answer, others are quantized in Python by "
        "pumer_convert.quantize, on inputs of your own."
    )
