"""pumer-convert inspect."""

from pathlib import Path
from typing import Any

import click

from pumer_convert.cli.output import chosen, emit, image_size, plan_table
from pumer_convert.cli.paths import PATH
from pumer_convert.convert.inspect import inspect
from pumer_convert.convert.load import TEXT_LENGTH


@click.command("inspect")
@click.argument("checkpoint", type=PATH)
@click.option("--text-length", type=int, help=f"Text tokens to count with (default {TEXT_LENGTH}).")
@click.option("--image-size", callback=image_size, metavar="S|HxW", help="Image size to count with.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(checkpoint: Path, text_length: int | None, image_size: Any, as_json: bool) -> None:
    """What CHECKPOINT is, its sites, and the tokens and MACs of every layer."""
    inspection = inspect(checkpoint, text_length=text_length, image_size=image_size)

    def human() -> str:
        graphs = inspection.graphs.items()
        text = f"text up to {inspection.max_text} tokens" if inspection.max_text else "no text"
        words = ", ".join(f"{name} ({', '.join(takes)} -> {', '.join(gives)})" for name, (takes, gives) in graphs)
        lines = [
            f"{inspection.path}: {inspection.origin}",
            f"model {inspection.model}, task {inspection.task}, {inspection.parameters / 1e6:.1f}M parameters "
            f"({inspection.bytes / 1e6:.0f} MB), {text}",
            inspection.pictures,
            *([f"graphs {words}"] if len(graphs) > 1 else []),
            f"reduced at: {', '.join(inspection.reduced_at) or 'nowhere (dense)'}",
            *chosen(inspection.choices),
            *(f"note: {note}" for note in inspection.notes),
            "",
            plan_table(inspection.plan),
        ]
        return "\n".join(lines)

    emit(inspection.to_json(), as_json, human)
