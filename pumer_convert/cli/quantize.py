"""pumer-convert quantize."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from pumer_convert.cli.engine import engine_options, engine_told
from pumer_convert.cli.output import EngineBar, emit, progress
from pumer_convert.cli.paths import PATH
from pumer_convert.cli.pictures import max_pixels
from pumer_convert.errors import InputError


@click.command("quantize")
@click.argument("folder", type=PATH)
@click.option("--mode", type=click.Choice(["int8", "fp8", "int8-cpu"]), default="int8", show_default=True)
@click.option("--data", required=True, type=PATH, help="A data set, in any readable format.")
@click.option("--images", type=PATH, help="Folder of the pictures, if not beside the data.")
@click.option("--split", help="train, val, ..., of data that hold several.")
@click.option("--on-error", type=click.Choice(["raise", "skip"]), default="raise", show_default=True)
@click.option(
    "--examples",
    type=click.IntRange(2),
    default=256,
    show_default=True,
    help="Calibration examples: half calibrate, half are compared.",
)
@max_pixels
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the choice of examples."
)
@click.option(
    "--modelopt",
    type=PATH,
    metavar="PYTHON",
    help="Python of an environment with nvidia-modelopt[onnx].",
)
@click.option("--trt", is_flag=True, help="Build a TensorRT engine from it as well.")
@engine_options
@click.option("--overwrite", is_flag=True, help="Replace files of an earlier run.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    folder: Path,
    mode: str,
    data: Path,
    images: Path | None,
    split: str | None,
    on_error: str,
    examples: int,
    max_pixels: int,
    seed: int,
    modelopt: Path | None,
    trt: bool,
    overwrite: bool,
    as_json: bool,
    **engine: Any,
) -> None:
    """Give the model.onnx that `export` wrote to FOLDER 8-bit linear layers: model.int8.onnx, model.fp8.onnx or
    model.int8-cpu.onnx.

    int8 and fp8 pay on a GPU with a TensorRT engine: NVIDIA's modelopt takes the ranges of the activations from real
    examples, in an environment of its own. int8-cpu pays on a CPU: ONNX Runtime's own quantizer, ranges as they come.
    Reducers, attention, norms and the head keep their types, and the report says how many answers stay the same.
    """
    from pumer_convert.artifact.sidecar import read_sidecar
    from pumer_convert.data.examples import read_examples
    from pumer_convert.export.folder import engine_beside, profiles_of, settings_of
    from pumer_convert.export.quantize import CPU, modelopt_version, quantize
    from pumer_convert.export.tensorrt import EngineSettings

    if folder.is_file():
        raise InputError(f"{folder}: a file; name the folder in which `export` wrote model.onnx.")
    source = folder / "model.onnx"
    sidecar = read_sidecar(source)
    # All that can be refused is, before the data are read, which takes minutes.
    if mode != CPU:
        modelopt_version(modelopt)
    elif trt or modelopt is not None:
        raise InputError(f"{CPU} is for ONNX Runtime on CPUs; an engine takes int8 or fp8, by --modelopt.")
    settings = EngineSettings(**engine)
    settings = replace(
        settings, profiles=profiles_of(settings_of(folder), settings.profiles, sidecar["text"]["longest"])
    )
    for suffix in ("onnx", "engine")[: 1 + trt]:
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
    if trt:
        progress("building the engine")
        bar, onnx_file = EngineBar(), Path(report["onnx"])
        made = engine_beside(onnx_file, settings, read_sidecar(onnx_file), overwrite=overwrite, progress=bar)
        bar.close()
        report["engine"] = made

    def human() -> str:
        lines = [
            f"wrote {report['onnx']} ({report['products']} linear layers in {mode}, the rest {report['dtype']})",
            f"{report['same_answers']:.2%} of {report['compared_on']} answers are those of {source.name}"
            + (f"; ranges of {report['calibrated_on']} examples" if report["calibrated_on"] else ""),
        ]
        if trt:
            lines.append(engine_told(report["engine"]))
        return "\n".join(lines)

    emit(report, as_json, human)
