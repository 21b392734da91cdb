"""pumer-convert inspect."""

from pathlib import Path
from typing import Any

import click

from pumer_convert.checkpoint.read import check_complete, open_checkpoint
from pumer_convert.cli.output import emit, image_size, plan_table
from pumer_convert.cli.paths import PATH
from pumer_convert.convert.load import TEXT_LENGTH, plan_of, spec_of
from pumer_convert.image_processor.picture_input import in_words, input_of, settings_of


@click.command("inspect")
@click.argument("checkpoint", type=PATH)
@click.option("--text-length", type=int, help=f"Text tokens to count with (default {TEXT_LENGTH}).")
@click.option("--image-size", callback=image_size, metavar="S|HxW", help="Image size to count with.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(checkpoint: Path, text_length: int | None, image_size: Any, as_json: bool) -> None:
    """What CHECKPOINT is, its sites, and the tokens and MACs of every layer."""
    found = open_checkpoint(checkpoint)
    check_complete(found)
    settings = settings_of(found.processor, found.family, image_size)
    pictures = input_of(settings, found.family, found.config)
    spec = spec_of(found, pictures.nominal)
    edits = found.config.get("pumer", {}).get("edits", [])
    plan = plan_of(found, text_length, image_size)
    report = {
        "path": str(found.path),
        "origin": found.origin,
        "model": found.family,
        "task": found.task,
        "parameters": found.parameters,
        "bytes": found.bytes,
        "image_size": list(pictures.nominal),
        "pictures": in_words(settings, pictures),
        "max_text": spec.max_text,
        "sites": list(spec.sites),
        "reduced_at": [edit["at"] for edit in edits],
        "notes": list(found.notes),
        "plan": plan.to_json(),
    }

    def human() -> str:
        lines = [
            f"{found.path}: {found.origin}",
            f"model {found.family}, task {found.task}, {found.parameters / 1e6:.1f}M parameters "
            f"({found.bytes / 1e6:.0f} MB), text up to {spec.max_text} tokens",
            f"{report['pictures']}",
            f"reduced at: {', '.join(edit['at'] for edit in edits) or 'nowhere (dense)'}",
            *(f"note: {note}" for note in found.notes),
            "",
            plan_table(plan),
        ]
        return "\n".join(lines)

    emit(report, as_json, human)
