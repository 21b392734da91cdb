"""pumer-convert apply."""

import os
import shutil
from pathlib import Path
from typing import Any

import click

from pumer_convert.cli.output import emit, plan_table, progress
from pumer_convert.cli.paths import PATH
from pumer_convert.cli.progress import Bar
from pumer_convert.cli.training_options import data_options, read_both, run_options, told
from pumer_convert.convert.apply import ApplyPlan, apply, prepare_apply
from pumer_convert.errors import InputError


@click.command("apply")
@click.argument("checkpoint", type=PATH)
@click.option(
    "--recipe",
    required=True,
    type=PATH,
    help="The YAML recipe: a file, or the name of one that ships (`pumer-convert recipes`).",
)
@click.option("-o", "--out", type=PATH, help="Output folder (default: CHECKPOINT-pumer).")
@click.option("--tokenizer", type=PATH, help="Folder whose tokenizer is copied in.")
@click.option("--text-length", type=int, help="Text tokens that the plan is counted at.")
@click.option("--dry-run", is_flag=True, help="Print the plan and write nothing.")
@click.option("--distill", is_flag=True, help="Finetune as the recipe's `distill:` says, on --data, in one go.")
@click.option("--data", type=PATH, help="A data set for --distill, in any readable format.")
@data_options
@run_options
@click.option("--overwrite", is_flag=True, help="Replace an output folder of pumer-convert.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    checkpoint: Path,
    recipe: Path,
    out: Path | None,
    tokenizer: Path | None,
    text_length: int | None,
    dry_run: bool,
    distill: bool,
    data: Path | None,
    overwrite: bool,
    as_json: bool,
    **learning: Any,
) -> None:
    """Insert a recipe's reducers into CHECKPOINT and write the reduced folder."""
    prepared = prepare_apply(checkpoint, recipe, out, tokenizer=tokenizer, text_length=text_length)
    if dry_run:
        report = {"out": str(prepared.out), "recipe": prepared.recipe.to_json(), "plan": prepared.plan.to_json()}
        report["pictures"] = prepared.pictures
        emit(report, as_json, lambda: f"{plan_table(prepared.plan)}\n{prepared.pictures}\n\nwould write {prepared.out}")
        return
    if distill:
        report = both(prepared, data, recipe, tokenizer, overwrite, learning)
        emit(report, as_json, lambda: f"{plan_table(prepared.plan)}\n\n{told(report)}")
        return
    if data is not None:
        raise InputError("--data is for a training; say --distill as well.")
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
    emit(report, as_json, lambda: f"{plan_table(prepared.plan)}\n{prepared.pictures}\n\nwrote {prepared.out}{notes}")


def both(
    prepared: ApplyPlan,
    data: Path | None,
    recipe: Path,
    tokenizer: Path | None,
    overwrite: bool,
    learning: dict[str, Any],
) -> dict[str, Any]:
    """Surgery to a folder beside the output, and a finetune of that one; the report of the latter."""
    if prepared.recipe.distill is None:
        raise InputError(f"{recipe}: it has no section `distill:`, which --distill goes by; `distill: {{}}` is enough.")
    if data is None:
        raise InputError("--distill needs something to train on: --data.")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("apply runs in one process: apply first, then launch `pumer-convert distill`.")
    from pumer_convert.system.output import check_out
    from pumer_convert.training.distill import distill
    from pumer_convert.training.work import WorkFolder

    bar, out = Bar(), prepared.out
    check_out(out, overwrite, [prepared.checkpoint.path])
    names = ("images", "split", "validation", "validation_split", "on_error", "max_pixels")
    reading = {name: learning.pop(name) for name in names}
    train, chosen_by = read_both(prepared.checkpoint.task, data, **reading, say=bar.line)
    student = out.absolute().with_name(f".{out.name}.student")
    try:
        if not (learning["resume"] and student.exists()):
            apply(prepared.checkpoint.path, recipe, student, tokenizer=tokenizer, overwrite=True, progress=bar.line)
        return distill(
            student,
            prepared.checkpoint.path,
            train,
            chosen_by,
            out,
            prepared.recipe.distill,
            overwrite=overwrite,
            progress=bar.line,
            watch=bar,
            **learning,
        )
    finally:
        if not WorkFolder(out).path.exists():  # else it is needed to go on
            shutil.rmtree(student, ignore_errors=True)
