"""What `distill` and `apply --distill` have in common: the options of the data and of the training."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pumer_convert.cli.paths import PATH
from pumer_convert.cli.pictures import max_pixels
from pumer_convert.errors import InputError
from pumer_convert.recipe.schema import load_recipe
from pumer_convert.recipe.settings import DistillSettings

if TYPE_CHECKING:
    from pumer_convert.data.sample import Sample

Command = Callable[..., Any]
SKIPPED = 5
"""Skipped samples that are named."""


PATH = PATH
DATA = (
    click.option("--images", type=PATH, help="Folder of the pictures, if not beside the data."),
    click.option("--split", help="The part of the data to train on: train, ... (data that hold several)."),
    click.option("--validation", type=PATH, help="Data that choose the best weights."),
    click.option("--validation-split", help="The part of --validation; without it, that part of the training data."),
    click.option("--on-error", type=click.Choice(["raise", "skip"]), default="raise", show_default=True),
    max_pixels,
)
RUN = (
    click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:i]"),
    click.option(
        "--workers",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Worker processes that decode images.",
    ),
    click.option("--cache", type=PATH, help="Folder that keeps the teacher's logits for other trainings."),
    click.option("--resume", is_flag=True, help="Resume a training that was not finished."),
)


def data_options(command: Command) -> Command:
    """Adds `DATA`; `--data` is the verb's own."""
    for option in reversed(DATA):
        command = option(command)
    return command


def run_options(command: Command) -> Command:
    """Adds `RUN`."""
    for option in reversed(RUN):
        command = option(command)
    return command


def read_both(
    task: str,
    data: Path,
    images: Path | None,
    split: str | None,
    validation: Path | None,
    validation_split: str | None,
    on_error: str,
    max_pixels: int,
    say: Callable[[str], None],
) -> "tuple[list[Sample], list[Sample]]":
    """The samples to train on and those to validate with."""
    from pumer_convert.data.formats import read_samples

    def read(path: Path, part: str | None) -> "list[Sample]":
        found = read_samples(path, task, images=images, split=part, on_error=on_error, max_pixels=max_pixels)
        for sentence in found.skipped[:SKIPPED]:
            say(f"skipped: {sentence}")
        if len(found.skipped) > SKIPPED:
            say(f"skipped: {len(found.skipped)} samples in all")
        for note in found.notes:
            say(f"note: {note}")
        return found.samples

    if validation_split is not None and validation is None and split is None:
        raise InputError("--validation-split takes a part of --data, so say with --split which part to train on.")
    train = read(data, split)
    if validation is None and validation_split is None:
        return train, []
    chosen_by = read(validation or data, validation_split)
    if both := {sample.where for sample in train} & {sample.where for sample in chosen_by}:
        found = f"{len(both)} of the {len(chosen_by)} samples to validate with are trained on as well ({min(both)})"
        if validation is None:  # the rows of a split, which says that they are others
            raise InputError(f"{found}; their rows name no split.")
        say(f"note: {found}; what they choose is what was learnt by heart.")
    return train, chosen_by


def settings_in(folder: Path) -> DistillSettings:
    """What the recipe.yaml of a folder says of distillation; the defaults when it says nothing."""
    recipe = folder / "recipe.yaml"
    found = load_recipe(recipe).distill if recipe.is_file() else None
    return found if found is not None else DistillSettings()


def first_process() -> bool:
    """Whether this is the process that speaks, of those that a launcher has started."""
    return os.environ.get("RANK", "0") == "0"


def told(report: dict[str, Any]) -> str:
    """A finished training for a person."""
    training = report["distill"]
    loss = training["last"]["loss"]
    lines = [f"trained {training['steps']} steps in {training['seconds']:.0f} s, last loss {loss:.4g}"]
    for record in training["validations"]:
        if record["step"] == training["weights_of_step"]:
            name, value = next(iter(record["validation"].items()))
            lines.append(f"validation {name} {value:.2%} at step {record['step']}, whose weights are kept")
    lines += [f"note: {note}" for note in training["notes"]]
    return "\n".join([*lines, f"wrote {report['out']}"])
