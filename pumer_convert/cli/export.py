"""pumer-convert export."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from pumer_convert.cli.engine import engine_options, engine_summary
from pumer_convert.cli.help import Sectioned, option, section
from pumer_convert.cli.output import EngineBar, emit, equal, graphs_in, image_size, progress
from pumer_convert.cli.paths import PATH
from pumer_convert.errors import InputError
from pumer_convert.export.folder import converted_folder, export_folder
from pumer_convert.export.layouts.hf import export_hf
from pumer_convert.export.tensorrt import EngineSettings
from pumer_convert.models.reductions import POSITIONS
from pumer_convert.models.spec import in_ranges
from pumer_convert.system.heap import give_back_at_once

LAYOUTS = {
    "hf": ("-o", "--positions", "--overwrite", "--json"),
    "openvino-genai": ("--into", "-o", "--dtype", "--overwrite", "--json"),
    "ort-genai": ("--into", "-o", "--dtype", "--overwrite", "--json"),
    "embeddings": ("-o", "--dtype", "--overwrite", "--json"),
}
"""The layouts, and the options that each obeys."""


@click.command("export", cls=Sectioned)
@click.argument("checkpoint", required=False, type=PATH)
@section(
    "What is written",
    option("--onnx", "only_onnx", is_flag=True, help="Write the ONNX model (the default)."),
    option("--trt", is_flag=True, help="Build a TensorRT engine from it as well."),
    option("--triton", is_flag=True, help="Write a model repository for Triton Inference Server as well."),
    option(
        "--triton-backend",
        type=click.Choice(["onnxruntime", "tensorrt", "python"]),
        needs="--triton",
        help="What runs the tensors (default: tensorrt for an engine of TensorRT, else onnxruntime).",
    ),
    option(
        "--layout",
        type=click.Choice([*LAYOUTS]),
        beside=LAYOUTS,
        help="Instead of that, a reduced vision part as a runtime of the whole model takes it: hf (transformers), "
        "openvino-genai, ort-genai (onnxruntime-genai), or embeddings, for servers that take these.",
    ),
    option(
        "--positions",
        type=click.Choice(POSITIONS),
        default=POSITIONS[0],
        needs="--layout",
        help="Of what is left of a picture, in hf: those among all of it, or one after the other.",
    ),
    option(
        "--into",
        type=PATH,
        needs="--layout",
        help="Folder of that runtime whose vision part is replaced; with -o it stays as it is, and a new one is made.",
    ),
)
@section(
    "The model",
    option("--joint", is_flag=True, help="Write both towers in one graph, model.onnx, as well."),
    option(
        "--dtype", type=click.Choice(["float32", "float16", "bfloat16"]), help="Number type (default: the recipe's)."
    ),
    option(
        "--keep-float32",
        multiple=True,
        metavar="LAYER",
        help="Layer that stays in float32, such as vision.3 or vision.0-3; repeatable (default: the recipe's).",
    ),
    option("--image-size", callback=image_size, metavar="S|HxW", help="Image size of the export."),
    option(
        "--opset", type=int, default=20, show_default=True, help="From 23 on attention is one node, fused or refused."
    ),
    option(
        "--inline-functions", is_flag=True, help="Reducers in standard operators alone, for runtimes such as OpenVINO."
    ),
)
@engine_options
@section(
    "Output",
    option("-o", "--out", type=PATH, help="Folder to write to (default: the checkpoint)."),
    option("--overwrite", is_flag=True, help="Replace files of an earlier export."),
    option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
)
def command(
    checkpoint: Path | None,
    only_onnx: bool,
    trt: bool,
    triton: bool,
    triton_backend: str | None,
    layout: str | None,
    positions: str,
    into: Path | None,
    joint: bool,
    out: Path | None,
    dtype: str | None,
    keep_float32: tuple[str, ...],
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
    if layout is not None:
        how: dict[str, Any] = {"overwrite": overwrite, "progress": progress}
        how |= {"positions": positions} if layout == "hf" else {}
        _layout(layout, checkpoint, into, out, dtype, how, as_json)
        return
    give_back_at_once()
    bar = EngineBar()
    report = export_folder(
        checkpoint,
        out,
        trt=EngineSettings(**engine) if trt else None,
        triton=triton_backend or "auto" if triton else None,
        joint=joint,
        dtype=dtype,
        keep_float32=keep_float32 or None,
        image_size=image_size,
        opset=opset,
        inline_functions=inline_functions,
        overwrite=overwrite,
        progress=progress,
        engine_progress=bar,
        in_subprocess=True,
    )
    bar.close()

    def human() -> str:
        lines = []
        for graph in graphs_in(report):
            there = "there already, and whole: " if "there_already" in graph else "wrote "
            kept = f", {', '.join(in_ranges(graph['keep_float32']))} in float32" if graph["keep_float32"] else ""
            lines.append(f"{there}{graph['onnx']} ({graph['dtype']}{kept}, opset {graph['opset']})")
            lines.append(f"verified: {equal(graph)}")
            if "engine" in graph:
                lines.append(engine_summary(graph["engine"]))
        if triton:
            lines.append(f"wrote {report['triton']['triton']} (Triton's backend {report['triton']['backend']})")
        return "\n".join([*lines, *(f"note: {note}" for note in report["notes"])])

    emit(report, as_json, human)


def _layout(
    layout: str,
    checkpoint: Path,
    into: Path | None,
    out: Path | None,
    dtype: str | None,
    how: dict[str, Any],
    as_json: bool,
) -> None:
    if into is None and layout == "openvino-genai":
        raise InputError(
            f"--layout {layout} replaces the vision part of a folder of that runtime; name it with --into."
        )
    if into is None and out is None:
        other = ", or the runtime's with --into" if "--into" in LAYOUTS[layout] else ""
        raise InputError(f"--layout {layout} writes a folder of its own; name it with -o{other}.")
    made: Callable[..., dict[str, Any]]
    target: Any = out
    if layout == "hf":
        made = partial(export_hf, checkpoint, target)
    else:
        give_back_at_once()
        how |= {"dtype": dtype, "in_subprocess": True}
        if layout == "openvino-genai":
            from pumer_convert.export.layouts.openvino_genai import export_openvino_genai

            folder: Any = into
            made = partial(export_openvino_genai, checkpoint, folder, out)
        elif layout == "ort-genai":
            from pumer_convert.export.layouts.ort_genai import export_ort_genai

            made = partial(export_ort_genai, checkpoint, into, out)
        else:
            from pumer_convert.export.layouts.embeddings import export_embeddings

            made = partial(export_embeddings, checkpoint, target)
    report = made(**how)

    def human() -> str:
        lines = [f"wrote {report['out']} ({report['image_tokens']} tokens of a picture)"]
        if "verification" in report:
            lines.append(f"verified: {equal({**report, 'graph': 'vision'})}")
        return "\n".join([*lines, *(f"note: {note}" for note in report.get("notes", ()))])

    emit(report, as_json, human)
