"""What the verbs that build engines have in common."""

from collections.abc import Mapping
from typing import Any

import click

from pumer_convert.cli.help import option, section
from pumer_convert.cli.output import profiles

engine_options = section(
    "TensorRT engine",
    option(
        "--flavour",
        type=click.Choice(["auto", "tensorrt", "tensorrt-rtx"]),
        default="auto",
        show_default=True,
        help="auto: TensorRT where it and a GPU are there, TensorRT-RTX otherwise.",
    ),
    option(
        "--compute-capability",
        "compute_capabilities",
        multiple=True,
        metavar="8.9",
        help="GPUs that the engine runs on (TensorRT-RTX); repeatable.",
    ),
    option(
        "--profile",
        "profiles",
        multiple=True,
        callback=profiles,
        metavar="BATCH,TEXT",
        help="Batch sizes and text lengths of the engine, smallest:fastest:largest, as in 1:1:8,4:32:40; repeatable.",
    ),
    option("--optimization-level", type=int, metavar="0-5", help="How long the builder searches."),
    option(
        "--workspace",
        "workspace_gib",
        type=float,
        metavar="GIB",
        help="Workspace: the most memory that a layer may take.",
    ),
    option("--version-compatible", is_flag=True, help="TensorRT: newer versions run the engine too."),
    option("--hardware-compatible", is_flag=True, help="TensorRT: every GPU from Ampere on runs the engine."),
    option("--strip-weights", is_flag=True, help="An engine that takes its weights from the ONNX file beside it."),
    option("--layer-information", is_flag=True, help="Keep the details of every layer in the engine."),
    needs="--trt",
)
"""Adds the options that `EngineSettings` is made of, under its names."""


def engine_summary(engine: Mapping[str, Any]) -> str:
    """A report's engine for a person."""
    verb = "there already, and whole:" if engine["there_already"] else "wrote"
    return f"{verb} {engine['path']} ({engine['bytes'] / 1e6:.1f} MB, {engine['flavour']} {engine['version']})"
