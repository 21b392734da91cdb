"""How good a checkpoint is, and what its reduction cost: dense against reduced on the same examples."""

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pumer_convert.checkpoint.locate import resolve
from pumer_convert.checkpoint.origin import Origin, origin_of
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.build import build
from pumer_convert.data.formats import read_samples
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.data.prompts import read_classes
from pumer_convert.data.sample import Sample
from pumer_convert.device import open_device
from pumer_convert.errors import InputError
from pumer_convert.evaluation.bootstrap import RESAMPLES, interval
from pumer_convert.evaluation.compatibility import check_comparable
from pumer_convert.evaluation.predict import Predictions, Progress, predict_each
from pumer_convert.image_processor.open_picture import MAX_PIXELS
from pumer_convert.models.family import family_of
from pumer_convert.system.output import output_files
from pumer_convert.tasks import open_embedding_task, open_generation_task, open_task
from pumer_convert.tasks.base import GenerationTask, Measurement
from pumer_convert.weights import EMBEDDINGS, Checkpoint

EVERY = 10.0
"""Seconds between two lines of progress."""


@dataclass(frozen=True)
class Score:
    """What one checkpoint reached: its metric from 0 to 1 with the 95% interval, and all metrics of the task. `parts`:
    of a model that generates, the seconds per example of vision part, prefill and decode."""

    value: float
    interval: tuple[float, float]
    metrics: dict[str, float]
    examples_per_second: float
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Flip:
    """An example that the two answer differently, with the right answer and what either answer earned."""

    id: str
    question: str
    dense: str
    reduced: str
    right: str
    dense_score: float
    reduced_score: float


@dataclass(frozen=True)
class Comparison:
    """Reduced against dense, example by example.

    `difference` of the metrics, reduced minus dense, with its 95% paired bootstrap interval; `agreement`: the share of
    examples with the same answer; `speedup`: examples per second, reduced over dense, measured in turns.
    """

    dense: Score
    difference: float
    interval: tuple[float, float]
    agreement: float
    speedup: float
    flips: tuple[Flip, ...]

    @property
    def lost(self) -> int:
        """How many examples the reduced one answers worse."""
        return sum(flip.reduced_score < flip.dense_score for flip in self.flips)

    @property
    def gained(self) -> int:
        """How many examples the reduced one answers better."""
        return sum(flip.reduced_score > flip.dense_score for flip in self.flips)


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found. `against` is the dense checkpoint, `comparison` how the two differ; None without one.

    `skipped` has a sentence for each sample that was left out, `notes` what a reader should know.
    """

    checkpoint: str
    against: str | None
    task: str
    metric: str
    examples: int
    device: str
    score: Score
    comparison: Comparison | None
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def evaluate(
    path: Path | str,
    data: Path | str,
    *,
    task: str | None = None,
    classes: Path | str | None = None,
    against: Path | str | None = None,
    images: Path | str | None = None,
    split: str | None = None,
    limit: int | None = None,
    batch_size: int = 32,
    workers: int = 0,
    device: str = "auto",
    seed: int = 0,
    on_error: str = "raise",
    max_pixels: int = MAX_PIXELS,
    flips: Path | str | None = None,
    overwrite: bool = False,
    instruction: str | None = None,
    max_new_tokens: int | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Measure the checkpoint at `path`, and what it was reduced from, on the first `limit` samples of `data`.

    A checkpoint that gives embeddings is measured by a `task` of its own choice, "retrieval" (the default) or
    "zero_shot", in which `classes` is a file of names and templates (see `read_classes`); one that generates by "vqa"
    (the default) or "pope", with an `instruction` beside each question (default: the family's; "" for none)
    and answers of `max_new_tokens` (default: 20); any other has its task.
    `against` is the dense checkpoint, by default the one that the reduced folder's report.json names, if it is still
    there. `data`, `images`, `split`, `on_error` and `max_pixels` are those of `read_samples`. `flips` is a file to
    write, a JSON line for each example that the two answer differently. `seed` is of the bootstrap alone.

    Raises InputError for data or checkpoints that do not fit (two that differ in task, labels, image size or
    vocabulary), MissingDependencyError for a device that is not there.
    """
    if batch_size < 1 or workers < 0 or (limit is not None and limit < 1):
        raise InputError("batch size and limit are whole numbers from 1, workers from 0.")
    place = open_device(device)
    checkpoint = open_checkpoint(Path(path))
    writes = family_of(checkpoint.family).generation is not None
    if max_new_tokens is not None and max_new_tokens < 1:
        raise InputError(f"an answer has 1 token or more, not {max_new_tokens}.")
    if not writes and (instruction is not None or max_new_tokens is not None):
        raise InputError(f"{checkpoint.path}: it is not asked in words and writes nothing; that is for models that do.")
    dense, note = _dense_of(checkpoint, against)
    if flips is not None and dense is None:
        raise InputError("flips are told against a dense checkpoint; name it with --against.")
    measured = _measurement(checkpoint, task, classes)
    if writes and workers:
        raise InputError("workers prepare batches for models of one pass; a model that generates has none.")
    preprocessor = None if writes else Preprocessor.of(checkpoint)
    inputs = [Path(data), *checkpoint.files, *(dense.files if dense is not None else ())]
    with output_files(Path(flips), overwrite, inputs=inputs) if flips is not None else contextlib.nullcontext() as file:
        progress(f"reading {data}")
        sample_set = read_samples(
            data, measured.name, images=images, split=split, on_error=on_error, max_pixels=max_pixels
        )
        samples = sample_set.samples[:limit]
        measured.check(samples)
        if not any(right_answer(sample) for sample in samples):
            raise InputError(f"{data}: its samples have no answers, so nothing can be measured.")
        both = [c for c in (checkpoint, dense) if c is not None]
        progress(f"{len(samples)} samples on {place}")
        tell = _lines(progress)
        if preprocessor is None:
            from pumer_convert.evaluation.generate import LONGEST, Generator, generate_each

            generators = [Generator.open(one, place, instruction, max_new_tokens or LONGEST) for one in both]
            assert isinstance(measured, GenerationTask)
            own, *others = generate_each(generators, samples, measured, batch_size=batch_size, progress=tell)
            cut = ""
        else:
            models = [build(one).to(place) for one in both]
            own, *others = predict_each(
                models,
                samples,
                measured,
                preprocessor,
                batch_size=batch_size,
                workers=workers,
                device=place,
                progress=tell,
            )
            cut = preprocessor.cut(measured.texts_of(samples))
        result = Evaluation(
            checkpoint=str(checkpoint.path),
            against=str(dense.path) if dense is not None else None,
            task=measured.name,
            metric=own.metric,
            examples=len(samples),
            device=str(place),
            score=score_of(own, seed),
            comparison=compare(own, others[0], samples, seed) if others else None,
            skipped=tuple(sample_set.skipped),
            notes=tuple(
                line
                for line in (
                    note,
                    *sample_set.notes,
                    measured.unanswerable(samples),
                    cut,
                )
                if line
            ),
        )
        if file is not None and result.comparison is not None:
            lines = (json.dumps(asdict(flip), ensure_ascii=False) for flip in result.comparison.flips)
            file.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return result


def _measurement(checkpoint: Checkpoint, task: str | None, classes: Path | str | None) -> Measurement:
    """What a checkpoint is measured by. Raises InputError for what is not for it."""
    if classes is not None and task != "zero_shot":
        raise InputError("a file of classes is for the task zero_shot.")
    if family_of(checkpoint.family).generation is not None:
        from pumer_convert.evaluation.generate import check_whole

        check_whole(checkpoint)
        return open_generation_task(task or "vqa")
    if checkpoint.task == EMBEDDINGS:
        options = {} if classes is None else {"classes": read_classes(Path(classes))}
        spec = family_of(checkpoint.family).spec(checkpoint.config)
        return open_embedding_task(task or "retrieval", spec, **options)
    if task not in (None, checkpoint.task):
        raise InputError(f"{checkpoint.path}: answers {checkpoint.task}; a task is chosen for models of two towers.")
    return open_task(checkpoint.task, checkpoint.config)


def score_of(predictions: Predictions, seed: int = 0, resamples: int = RESAMPLES) -> Score:
    """The metric of predictions, with the bootstrap interval over examples."""
    return Score(
        value=predictions.metrics[predictions.metric],
        interval=interval(predictions.scores.numpy(), seed=seed, resamples=resamples),
        metrics=predictions.metrics,
        examples_per_second=predictions.rate,
        parts=dict(predictions.parts),
    )


def compare(
    reduced: Predictions, dense: Predictions, samples: Sequence[Sample], seed: int = 0, resamples: int = RESAMPLES
) -> Comparison:
    """Two predictions of the same samples, example by example."""
    differences = reduced.scores.double() - dense.scores.double()
    flips = tuple(
        Flip(sample.id, _asked(sample), before, after, right_answer(sample), float(earned_before), float(earned_after))
        for sample, before, after, earned_before, earned_after in zip(
            samples, dense.answers, reduced.answers, dense.scores, reduced.scores, strict=True
        )
        if before != after
    )
    return Comparison(
        dense=score_of(dense, seed, resamples),
        difference=float(differences.mean()),
        interval=interval(differences.numpy(), seed=seed, resamples=resamples),
        agreement=1 - len(flips) / len(samples),
        speedup=reduced.rate / dense.rate if dense.rate else 0.0,
        flips=flips,
    )


def right_answer(sample: Sample) -> str:
    """The right answer in words: of several humans' the most common, "" when nobody gave one."""
    target = sample.target
    if isinstance(target, Mapping):
        return max(target, key=lambda answer: target[answer], default="")
    if isinstance(target, tuple):
        return str(Counter(target).most_common(1)[0][0]) if target else ""
    return str(target)


def _asked(sample: Sample) -> str:
    """The text of a sample, or the picture of one that has none."""
    return sample.text or sample.pictures[0].name


def _dense_of(checkpoint: Checkpoint, against: Path | str | None) -> tuple[Checkpoint | None, str]:
    """What a checkpoint is to be compared with, and what there is to say if it is nothing."""
    source = Origin(resolve(against)) if against is not None else origin_of(checkpoint.path)
    if source is None:
        return None, ""
    if source.place is None:
        return None, f"{source.why}; --against DENSE compares."
    dense = open_checkpoint(source.place)
    pumer = checkpoint.config.get("pumer", {})
    if against is None and ("image_size" in pumer or "fit" in pumer):
        other = "images of another size" if "image_size" in pumer else "images in their own shape"
        return None, f"{source.place}, which this was made from, takes {other}; evaluate that one by itself."
    check_comparable(checkpoint, dense)
    return dense, f"{source.why}." if source.why else ""


def _lines(progress: Callable[[str], None]) -> Progress:
    """Tells how far it is, now and then."""
    last = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY:
            last = time.monotonic()
            progress(f"{done} of {total}")

    return tell
