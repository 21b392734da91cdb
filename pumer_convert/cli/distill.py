"""pumer-convert distill."""

from pathlib import Path
from typing import Any

import click

from pumer_convert.cli.help import Sectioned, option, section
from pumer_convert.cli.output import emit
from pumer_convert.cli.paths import PATH
from pumer_convert.cli.progress import Bar
from pumer_convert.cli.training_options import (
    DATA,
    RUN,
    TWO_TOWERS,
    data_task,
    distill_settings,
    first_process,
    summary,
    take_data_options,
)


@click.command("distill", cls=Sectioned)
@click.argument("checkpoint", type=PATH)
@section("The data", option("--data", required=True, type=PATH, help="A data set, in any readable format."), *DATA)
@section("Two towers", *TWO_TOWERS)
@section(
    "The teacher",
    option("--teacher", type=PATH, help="The dense checkpoint (default: what CHECKPOINT was reduced from)."),
    option("--kd", type=float, help="Weight of the teacher's answers; 0 trains without a teacher."),
    option("--temperature", type=float, help="Temperature of the teacher's answers."),
    option("--cosine", type=float, help="Weight of the cosine to the teacher's embeddings, of towers."),
    option("--hidden", type=float, help="Weight of the teacher's hidden states."),
    option("--contrastive", type=float, help="Weight of the contrastive loss, of two towers with captions."),
)
@section(
    "The training",
    option("--epochs", type=int, help="Passes over the data."),
    option("--batch-size", type=int, help="Examples of one step, over all processes."),
    option("--accumulation", type=int, help="Parts of a batch that are computed one after the other."),
    option(
        "--learning-rate", type=float, help="Learning rate of the body; the head and cross-modal layers learn faster."
    ),
    option("--amp", type=click.Choice(["no", "bf16", "fp16"]), help="Arithmetic of the forward pass."),
    option("--seed", type=int, help="Seed of the order of the samples and of all that is drawn."),
)
@section("The run", *RUN, option("--save-every", type=int, help="Steps between states to resume from."))
@section(
    "Output",
    option("-o", "--out", type=PATH, help="Output folder (default: CHECKPOINT-distilled)."),
    option("--overwrite", is_flag=True, help="Replace an output folder of pumer-convert, or a stopped training."),
    option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
)
def command(
    checkpoint: Path,
    teacher: Path | None,
    data: Path,
    out: Path | None,
    task: str | None,
    classes: Path | None,
    device: str,
    workers: int,
    cache: Path | None,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Finetune the reduced CHECKPOINT, taught by its dense original.

    The settings are those of the `distill:` section of its recipe.yaml, where no option says otherwise; what neither
    says has the published value.

    Runs under `accelerate launch -m pumer_convert distill ...` on several GPUs as well.
    """
    from pumer_convert.checkpoint.read import open_checkpoint
    from pumer_convert.training.distill import distill
    from pumer_convert.training.samples import training_samples

    bar, student = Bar(), open_checkpoint(checkpoint)
    reading = take_data_options(options)
    settings = distill_settings(student.path).replaced(options)
    train, validation = training_samples(data, data_task(student, task), **reading, progress=bar.line)
    report = distill(
        student,
        teacher,
        train,
        validation,
        out,
        settings,
        classes=classes,
        device=device,
        workers=workers,
        cache=cache,
        resume=resume,
        overwrite=overwrite,
        progress=bar.line,
        watch=bar,
    )
    if first_process():
        emit(report, as_json, lambda: summary(report))
