"""pumer-convert export."""

from pathlib import Path
from typing import Any

import click

from pumer_convert.checkpoint.locate import own_folder, resolve
from pumer_convert.cli.engine import engine_options, engine_told
from pumer_convert.cli.output import EngineBar, emit, image_size, progress
from pumer_convert.cli.paths import PATH
from pumer_convert.errors import InputError
from pumer_convert.export.folder import converted_folder, export_folder
from pumer_convert.export.tensorrt import EngineSettings
from pumer_convert.system.heap import give_back_at_once
from pumer_convert.system.output import check_out


@click.command("export")
@click.argument("checkpoint", required=False, type=PATH)
@click.option("--onnx", "only_onnx", is_flag=True, help="Write the ONNX model (the default).")
@click.option("--trt", is_flag=True, help="Build a TensorRT engine from it as well.")
@click.option("--triton", is_flag=True, help="Write a model repository for Triton Inference Server as well.")
@click.option(
    "--triton-backend",
    type=click.Choice(["onnxruntime", "tensorrt", "python"]),
    help="What runs the tensors (default: tensorrt for an engine of TensorRT, else onnxruntime).",
)
@click.option("-o", "--out", type=PATH, help="Folder to write to (default: the checkpoint).")
@click.option(
    "--dtype", type=click.Choice(["float32", "float16", "bfloat16"]), help="Number type (default: the recipe's)."
)
@click.option("--image-size", callback=image_size, metavar="S|HxW", help="Image size of the export.")
@click.option(
    "--opset", type=int, default=20, show_default=True, help="From 23 on attention is one node, fused or refused."
)
@click.option(
    "--inline-functions", is_flag=True, help="Reducers in standard operators alone, for runtimes such as OpenVINO."
)
@engine_options
@click.option("--overwrite", is_flag=True, help="Replace files of an earlier export.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    checkpoint: Path | None,
    only_onnx: bool,
    trt: bool,
    triton: bool,
    triton_backend: str | None,
    out: Path | None,
    dtype: str | None,
    image_size: Any,
    opset: int,
    inline_functions: bool,
    overwrite: bool,
    as_json: bool,
    **engine: Any,
) -> None:
    """Export CHECKPOINT (default: the converted checkpoint here) to ONNX, verified, and to a TensorRT engine."""
    if checkpoint is None:
        checkpoint = converted_folder(Path.cwd())
        progress(f"exporting {checkpoint}")
    if triton_backend is not None and not triton:
        raise InputError("--triton-backend is for a model repository; say --triton as well.")
    if triton_backend == "tensorrt" and not trt:
        raise InputError("Triton's backend tensorrt runs an engine; say --trt as well.")
    checkpoint = resolve(checkpoint)
    repository = (out if out is not None else own_folder(checkpoint)) / "triton"
    if triton and repository.parent.is_dir():
        check_out(repository, overwrite)
    give_back_at_once()
    bar = EngineBar()
    report = export_folder(
        checkpoint,
        out,
        trt=EngineSettings(**engine) if trt else None,
        dtype=dtype,
        image_size=image_size,
        opset=opset,
        inline_functions=inline_functions,
        overwrite=overwrite,
        progress=progress,
        engine_progress=bar,
        in_subprocess=True,
    )
    bar.close()
    if triton:
        from pumer_convert.export.triton import export_triton

        engine_of = report.get("engine", {"flavour": None})
        backend = triton_backend or ("tensorrt" if engine_of["flavour"] == "tensorrt" else "onnxruntime")
        served = engine_of["path"] if backend == "tensorrt" and trt else report["onnx"]
        report |= {"triton": export_triton(served, repository, backend=backend, overwrite=overwrite)}

    def human() -> str:
        check = report["verification"]
        there = "there_already" in report
        lines = [
            f"{'there already, and whole: ' if there else 'wrote '}{report['onnx']} ({report['dtype']}, opset "
            f"{report['opset']})",
            f"verified: logits within {check['logits_error']:.1e} of eager (allowed {check['tolerance']:.0e}) in "
            f"{check['cases']} cases; {check['decisions_that_differ']} of {check['decisions']} decisions differ",
        ]
        if "engine" in report:
            lines.append(engine_told(report["engine"]))
        if triton:
            lines.append(f"wrote {report['triton']['triton']} (Triton's backend {report['triton']['backend']})")
        return "\n".join([*lines, *(f"note: {note}" for note in report["notes"])])

    emit(report, as_json, human)
