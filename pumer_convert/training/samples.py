"""The samples of a training: those to train on, and those to validate with."""

from collections.abc import Callable
from pathlib import Path

from pumer_convert.data.formats import embedded_task, read_samples
from pumer_convert.data.sample import Sample
from pumer_convert.errors import InputError
from pumer_convert.image_processor.open_picture import MAX_PIXELS
from pumer_convert.weights import EMBEDDINGS

SKIPPED = 5
"""Skipped samples that are named."""


def training_samples(
    data: Path | str,
    task: str,
    *,
    images: Path | str | None = None,
    split: str | None = None,
    validation: Path | str | None = None,
    validation_split: str | None = None,
    on_error: str = "raise",
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[str], None] = lambda line: None,
) -> tuple[list[Sample], list[Sample]]:
    """The samples of `data` to train on, and those of `validation` to validate with; of a `validation_split` alone,
    they are that part of `data`. For a model of two towers `task` is "retrieval", "zero_shot" or "pictures", or
    "embeddings", which is of each data what they hold. The other options are those of `read_samples`; `progress` hears
    of what was left out.

    Raises InputError as `read_samples` does, and for a split that cannot be told from what is trained on.
    """

    def read(path: Path | str, part: str | None) -> list[Sample]:
        held = embedded_task(path, images=images, split=part) if task == EMBEDDINGS else task
        found = read_samples(path, held, images=images, split=part, on_error=on_error, max_pixels=max_pixels)
        for sentence in found.skipped[:SKIPPED]:
            progress(f"skipped: {sentence}")
        if len(found.skipped) > SKIPPED:
            progress(f"skipped: {len(found.skipped)} samples in all")
        for note in found.notes:
            progress(f"note: {note}")
        return found.samples

    if validation_split is not None and validation is None and split is None:
        raise InputError("--validation-split takes a part of --data, so say with --split which part to train on.")
    train = read(data, split)
    if validation is None and validation_split is None:
        return train, []
    validating = read(validation or data, validation_split)
    if both := {sample.where for sample in train} & {sample.where for sample in validating}:
        overlap = f"{len(both)} of the {len(validating)} samples to validate with are trained on as well ({min(both)})"
        if validation is None:  # the rows of a split, which says that they are others
            raise InputError(f"{overlap}; their rows name no split.")
        progress(f"note: {overlap}; what they choose is what was learnt by heart.")
    return train, validating
