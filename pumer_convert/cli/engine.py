"""What the verbs that build engines have in common."""

from collections.abc import Callable, Mapping
from typing import Any

import click

from pumer_convert.cli.output import profiles

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
        "--compute-capability",
        "compute_capabilities",
        multiple=True,
        metavar="8.9",
        help="GPUs that the engine runs on (TensorRT-RTX); repeatable.",
    ),
    click.option(
        "--profile",
        "profiles",
        multiple=True,
        callback=profiles,
        metavar="BATCH,TEXT",
        help="Batch sizes and text lengths of the engine, smallest:fastest:largest, as in 1:1:8,4:32:40; repeatable.",
    ),
    click.option("--optimization-level", type=int, metavar="0-5", help="How long the builder searches."),
    click.option(
        "--workspace",
        "workspace_gib",
        type=float,
        metavar="GIB",
        help="Workspace: the most memory that a layer may take.",
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


def engine_told(engine: Mapping[str, Any]) -> str:
    """A report's engine for a person."""
    done = "there already, and whole:" if engine["there_already"] else "wrote"
    return f"{done} {engine['path']} ({engine['bytes'] / 1e6:.1f} MB, {engine['flavour']} {engine['version']})"
