"""What `distill` and `apply --distill` have in common: the options of the data and of the training."""

import os
from pathlib import Path
from typing import Any

from pumer_convert.cli.help import option
from pumer_convert.cli.paths import PATH
from pumer_convert.cli.shared_options import device, max_pixels, on_error, workers
from pumer_convert.errors import InputError, nearest
from pumer_convert.recipe.schema import load_recipe
from pumer_convert.recipe.settings import DistillSettings
from pumer_convert.weights import EMBEDDINGS, Checkpoint

DATA = (
    option("--images", type=PATH, help="Folder of the pictures, if not beside the data."),
    option("--split", help="The part of the data to train on: train, ... (data that hold several)."),
    option("--validation", type=PATH, help="Data that choose the best weights."),
    option("--validation-split", help="The part of --validation; without it, that part of the training data."),
    on_error,
    max_pixels,
)
"""The options that `training_samples` takes; `--data` is the verb's own."""
TWO_TOWERS = (
    option("--task", metavar="TASK", help="Take this of the data: retrieval, zero_shot or pictures (default: it all)."),
    option("--classes", type=PATH, help="Classes that validate, a line each; lines with {} are templates."),
)
"""The options of models of two towers; `data_task` takes the first."""
RUN = (
    device,
    workers,
    option("--cache", type=PATH, help="Folder that keeps the teacher's answers for other trainings."),
    option("--resume", is_flag=True, help="Resume a training that was not finished."),
)


def data_task(checkpoint: Checkpoint, asked: str | None) -> str:
    """What `training_samples` reads for a checkpoint. Raises InputError when it is `asked` for what is not the
    checkpoint's."""
    from pumer_convert.data import formats

    known = formats.TWO_TOWERS
    if checkpoint.task == EMBEDDINGS and asked is not None and asked not in known:
        raise InputError(f"two towers are not taught by '{asked}', but by {', '.join(known)}.{nearest(asked, known)}")
    if checkpoint.task != EMBEDDINGS and asked not in (None, checkpoint.task):
        raise InputError(f"{checkpoint.path}: answers {checkpoint.task}; a task is chosen for models of two towers.")
    return asked or checkpoint.task


def take_data_options(options: dict[str, Any]) -> dict[str, Any]:
    """Takes the values of `DATA` out of `options`: what `training_samples` is called with."""
    names = ("images", "split", "validation", "validation_split", "on_error", "max_pixels")
    return {name: options.pop(name) for name in names}


def distill_settings(folder: Path) -> DistillSettings:
    """What the recipe.yaml of a folder says of distillation; the defaults when it says nothing."""
    recipe = folder / "recipe.yaml"
    settings = load_recipe(recipe).distill if recipe.is_file() else None
    return settings if settings is not None else DistillSettings()


def first_process() -> bool:
    """Whether this is the process that speaks, of those that a launcher has started."""
    return os.environ.get("RANK", "0") == "0"


def summary(report: dict[str, Any]) -> str:
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
