"""pumer-convert quantize."""

from pathlib import Path
from typing import Any

import click

from pumer_convert.cli.engine import engine_options, engine_summary
from pumer_convert.cli.help import Sectioned, option, section
from pumer_convert.cli.output import EngineBar, emit, progress
from pumer_convert.cli.paths import PATH
from pumer_convert.cli.shared_options import max_pixels, on_error


@click.command("quantize", cls=Sectioned)
@click.argument("folder", type=PATH)
@section(
    "What is written",
    option(
        "--mode",
        type=click.Choice(["int8", "fp8", "int8-cpu"]),
        default="int8",
        show_default=True,
        help="The 8-bit type: int8 and fp8 for an engine on a GPU, int8-cpu for ONNX Runtime on a CPU.",
    ),
    option("--trt", is_flag=True, help="Build a TensorRT engine from it as well."),
    option(
        "--modelopt",
        type=PATH,
        metavar="PYTHON",
        help="Python of an environment with nvidia-modelopt[onnx].",
    ),
)
@section(
    "The data",
    option("--data", required=True, type=PATH, help="A data set, in any readable format."),
    option("--images", type=PATH, help="Folder of the pictures, if not beside the data."),
    option("--split", help="train, val, ..., of data that hold several."),
    on_error,
    option(
        "--examples",
        type=click.IntRange(2),
        default=256,
        show_default=True,
        help="Calibration examples: half calibrate, half are compared.",
    ),
    option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the choice of examples."),
    max_pixels,
)
@engine_options
@section(
    "Output",
    option("--overwrite", is_flag=True, help="Replace files of an earlier run."),
    option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
)
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
    from pumer_convert.export.quantize_folder import quantize_folder
    from pumer_convert.export.tensorrt import EngineSettings

    bar = EngineBar()
    report = quantize_folder(
        folder,
        data,
        mode=mode,
        modelopt=modelopt,
        trt=EngineSettings(**engine) if trt else None,
        examples=examples,
        images=images,
        split=split,
        seed=seed,
        on_error=on_error,
        max_pixels=max_pixels,
        overwrite=overwrite,
        progress=progress,
        engine_progress=bar,
    )
    bar.close()

    def human() -> str:
        lines = [
            f"wrote {report['onnx']} ({report['products']} linear layers in {mode}, the rest {report['dtype']})",
            f"{report['same_answers']:.2%} of {report['compared_on']} answers are those of model.onnx"
            + (f"; ranges of {report['calibrated_on']} examples" if report["calibrated_on"] else ""),
        ]
        if trt:
            lines.append(engine_summary(report["engine"]))
        return "\n".join(lines)

    emit(report, as_json, human)
