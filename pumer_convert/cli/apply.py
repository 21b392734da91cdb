"""pumer-convert apply."""

from pathlib import Path

import click

from pumer_convert.cli.output import emit, plan_table, progress
from pumer_convert.convert import apply, intend


@click.command("apply")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--recipe", required=True, type=click.Path(path_type=Path), help="The YAML recipe.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Output folder (default: CHECKPOINT-pumer).")
@click.option("--tokenizer", type=click.Path(path_type=Path), help="Folder whose tokenizer is copied in.")
@click.option("--text-length", type=int, help="Text tokens that the plan is counted at.")
@click.option("--dry-run", is_flag=True, help="Print the plan and write nothing.")
@click.option("--overwrite", is_flag=True, help="Replace an output folder of pumer-convert.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    checkpoint: Path,
    recipe: Path,
    out: Path | None,
    tokenizer: Path | None,
    text_length: int | None,
    dry_run: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Insert a recipe's reducers into CHECKPOINT and write the reduced folder."""
    intent = intend(checkpoint, recipe, out, tokenizer=tokenizer, text_length=text_length)
    if dry_run:
        report = {"out": str(intent.out), "recipe": intent.recipe.to_json(), "plan": intent.plan.to_json()}
        emit(report, as_json, lambda: f"{plan_table(intent.plan)}\n\nwould write {intent.out}")
        return
    report = apply(
        checkpoint,
        recipe,
        out,
        tokenizer=tokenizer,
        text_length=text_length,
        overwrite=overwrite,
        progress=progress,
    )
    notes = "".join(f"\nnote: {note}" for note in report["notes"])
    emit(report, as_json, lambda: f"{plan_table(intent.plan)}\n\nwrote {intent.out}{notes}")
