"""What the verbs that build engines have in common."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from pumer_convert.cli import output
from pumer_convert.export.tensorrt import EngineSettings, build_engine

Command = Callable[..., Any]

OPTIONS = (
    click.option(
        "--flavour",
        type=click.Choice(["auto", "tensorrt", "tensorrt-rtx"]),
        default="auto",
        show_default=True,
        help="auto: TensorRT where it and a GPU are there, TensorRT-RTX otherwise.",
    ),
    click.option(
        "--compute-capability", "compute_capabilities", multiple=True, metavar="8.9", help="RTX targets; repeatable."
    ),
    click.option(
        "--profile",
        "profiles",
        multiple=True,
        callback=output.profiles,
        metavar="BATCH,TEXT",
        help="Batch sizes and text lengths of the engine, smallest:fastest:largest, as in 1:1:8,4:32:40; repeatable.",
    ),
    click.option("--optimization-level", type=int, metavar="0-5", help="How long the builder searches."),
    click.option(
        "--workspace", "workspace_gib", type=float, metavar="GIB", help="The most memory that a layer may take."
    ),
    click.option("--version-compatible", is_flag=True, help="TensorRT: newer versions run the engine too."),
    click.option("--hardware-compatible", is_flag=True, help="TensorRT: every GPU from Ampere on runs the engine."),
    click.option(
        "--strip-weights", is_flag=True, help="An engine that takes its weights from the ONNX file beside it."
    ),
    click.option("--layer-information", is_flag=True, help="Keep the details of every layer in the engine."),
)


def engine_options(command: Command) -> Command:
    """Adds the options that `EngineSettings` is made of, under its names."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def write_engine(folder: Path, onnx_file: Path, asked: Mapping[str, Any], overwrite: bool) -> dict[str, Any]:
    """Build an engine beside an ONNX file with the profiles of the folder's recipe, unless others are asked for."""
    from pumer_convert.export.folder import profiles_of, settings_of

    settings = EngineSettings(**asked)
    sidecar = json.loads(onnx_file.with_name(onnx_file.name + ".json").read_text("utf-8"))
    profiles = profiles_of(settings_of(folder), settings.profiles, sidecar["text"]["longest"])
    output.progress("building the engine")
    bar = output.EngineBar()
    made = build_engine(
        onnx_file, None, replace(settings, profiles=profiles), sidecar=sidecar, overwrite=overwrite, progress=bar
    )
    bar.close()
    out = str(onnx_file.with_suffix(".engine"))
    engine = {"path": out, "flavour": made["flavour"], "version": made["tensorrt_version"]}
    return {"engine": {**engine, "bytes": made["engine"]["bytes"]}}
