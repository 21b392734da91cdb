"""pumer-convert apply."""

from pathlib import Path
from typing import Any

import click

from pumer_convert.cli.help import Sectioned, option, section
from pumer_convert.cli.output import chosen, emit, plan_table, progress
from pumer_convert.cli.paths import PATH
from pumer_convert.cli.progress import Bar
from pumer_convert.cli.training_options import DATA, RUN, TWO_TOWERS, data_task, summary, take_data_options
from pumer_convert.convert.apply import ApplyPlan, prepare_apply
from pumer_convert.errors import InputError


@click.command("apply", cls=Sectioned)
@click.argument("checkpoint", type=PATH)
@section(
    "What is applied",
    option(
        "--recipe",
        required=True,
        type=PATH,
        help="The YAML recipe: a file, or the name of one that ships (`pumer-convert recipes`).",
    ),
    option("--tokenizer", type=PATH, help="Folder whose tokenizer is copied in."),
    option("--text-length", type=int, help="Text tokens that the plan is counted at."),
)
@section(
    "Training in one go",
    option("--distill", is_flag=True, help="Finetune as the recipe's `distill:` says, on --data, in one go."),
    option("--data", type=PATH, help="A data set for --distill, in any readable format."),
    *DATA,
    *TWO_TOWERS,
    *RUN,
    needs="--distill",
)
@section(
    "Output",
    option("-o", "--out", type=PATH, help="Output folder (default: CHECKPOINT-pumer)."),
    option("--dry-run", is_flag=True, help="Print the plan and write nothing."),
    option("--overwrite", is_flag=True, help="Replace an output folder of pumer-convert."),
    option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
)
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
    planned = "\n".join([plan_table(prepared.plan), prepared.pictures, *chosen(prepared.choices)])
    if dry_run:
        report = {"out": str(prepared.out), "recipe": prepared.recipe.to_json(), "plan": prepared.plan.to_json()}
        report |= {"pictures": prepared.pictures, "choices": prepared.choices}
        emit(report, as_json, lambda: f"{planned}\n\nwould write {prepared.out}")
        return
    if distill:
        if data is None:
            raise InputError("--distill needs something to train on: --data.")
        report = both(prepared, data, overwrite, learning)
        emit(report, as_json, lambda: f"{plan_table(prepared.plan)}\n\n{summary(report)}")
        return
    report = prepared.write(overwrite=overwrite, progress=progress)
    notes = "".join(f"\nnote: {note}" for note in report["notes"])
    emit(report, as_json, lambda: f"{planned}\n\nwrote {prepared.out}{notes}")


def both(prepared: ApplyPlan, data: Path, overwrite: bool, learning: dict[str, Any]) -> dict[str, Any]:
    """Read the data and do both stages; gives the report. `learning` has the values of `DATA`, `TWO_TOWERS`, `RUN`."""
    from pumer_convert.training.apply_and_distill import apply_and_distill, check_both
    from pumer_convert.training.samples import training_samples

    check_both(prepared, overwrite)  # before the data are read, which may take minutes
    bar = Bar()
    reading = take_data_options(learning)
    task = data_task(prepared.checkpoint, learning.pop("task"))
    train, validation = training_samples(data, task, **reading, progress=bar.line)
    return apply_and_distill(prepared, train, validation, overwrite=overwrite, progress=bar.line, watch=bar, **learning)
