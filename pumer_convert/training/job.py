"""Everything that a distillation will do, decided and checked before a weight is read."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pumer_convert.checkpoint.companions import TOKENIZERS
from pumer_convert.checkpoint.origin import origin_of
from pumer_convert.checkpoint.read import as_checkpoint
from pumer_convert.data.augment import RandAugment
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.data.prompts import Classes
from pumer_convert.data.sample import Sample
from pumer_convert.data.tokenizer import load_tokenizer
from pumer_convert.errors import InputError
from pumer_convert.image_processor.picture_input import input_of, picture_input, settings_of
from pumer_convert.models.family import family_of
from pumer_convert.models.rates import Rates
from pumer_convert.recipe.settings import DistillSettings
from pumer_convert.tasks import open_task
from pumer_convert.tasks.base import Measurement, Rows, Task
from pumer_convert.tasks.towers import Task as TowerTask
from pumer_convert.training.features import Places, check_changed
from pumer_convert.training.rates import rates_of
from pumer_convert.training.towers import Towers, measurement, towers_of
from pumer_convert.weights import EMBEDDINGS, Checkpoint


@dataclass(frozen=True)
class Job:
    """What is trained, by whom, on what and how. `teacher` None: the task's loss alone; `teacher_preprocessor` None: it
    takes the student's inputs. `towers` is what is taught of a model that gives embeddings, None of one that answers;
    `measured` what validates it, None: how near it is to its teacher; `classes` are those that it was told."""

    student: Checkpoint
    teacher: Checkpoint | None
    train: Sequence[Sample]
    validation: Sequence[Sample]
    out: Path
    settings: DistillSettings
    rates: Rates
    task: Rows
    preprocessor: Preprocessor
    teacher_preprocessor: Preprocessor | None
    towers: Towers | None
    measured: Measurement | None
    classes: Classes | None

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch; an incomplete last batch is left out."""
        return len(self.train) // self.settings.batch_size

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return self.steps_per_epoch * self.settings.epochs

    @property
    def inputs(self) -> list[Path]:
        """The checkpoints that are read."""
        return [self.student.path, *((self.teacher.path,) if self.teacher is not None else ())]

    @property
    def reduced(self) -> bool:
        """Whether the student has reducers at all."""
        return bool(self.student.config.get("pumer", {}).get("edits"))

    @property
    def width(self) -> int:
        """How many numbers a teacher's answer has."""
        if self.towers is None:
            return len(self.student.config["id2label"])
        if self.towers.places is not None:
            return self.towers.width * self.dense_places.count
        return self.towers.width * (2 if self.towers.compares else 1)

    @property
    def dense_places(self) -> Places:
        """Where the tokens stand of a vision part that teaches."""
        assert self.teacher is not None
        return Places.of(self.teacher)

    @property
    def repeats(self) -> bool:
        """Whether an epoch has the same inputs as the one before: a query's candidates are drawn anew each time."""
        return self.settings.augment is None and self.task.lines == 1


def make_job(
    student: Path | str | Checkpoint,
    teacher: Path | str | Checkpoint | None,
    train: Sequence[Sample],
    validation: Sequence[Sample],
    out: Path,
    settings: DistillSettings,
    progress: Callable[[str], None] = lambda line: None,
    classes: Classes | None = None,
) -> Job:
    """The job, with everything checked that can be. Raises InputError for what does not fit together."""
    own = as_checkpoint(student)
    augment = None if settings.augment is None else RandAugment(settings.augment.number, settings.augment.magnitude)
    towers, graph = None, None
    measured: Measurement | None
    if own.task == EMBEDDINGS:
        towers = towers_of(own, train, settings)
        task: Rows = TowerTask(towers.compares)
        measured = measurement(family_of(own.family).spec(own.config), validation, classes)
        graph = towers.image if not towers.compares and measured is None else None
    else:
        task = measured = _answers(own, settings, classes)
    preprocessor = Preprocessor.of(own, augment=augment, graph=graph)
    task.rows(train, train=True, seed=settings.seed)
    if validation:
        task.rows(validation)
    if len(train) < settings.batch_size:
        raise InputError(f"{len(train)} samples do not fill one batch of {settings.batch_size}; lower batch_size.")
    if own.path.is_dir() and out.absolute().is_relative_to(own.path.absolute()):
        raise InputError(f"{out}: lies inside the checkpoint itself; choose another place with -o.")
    if teacher is None and towers is not None and towers.places is not None:
        check_changed(own)
    dense, theirs = None, None
    if settings.teaches or towers is not None:
        dense = as_checkpoint(teacher if teacher is not None else recorded_source(own.path, progress, towers is None))
        check_teacher(dense, own, settings, towers)
        image = settings_of(dense.processor, dense.family)
        if image != preprocessor.image:
            theirs = replace(preprocessor, image=image, input=input_of(image, dense.family, dense.config))
    rates = rates_of(settings, own.family, own.task)
    return Job(
        own, dense, train, validation, out, settings, rates, task, preprocessor, theirs, towers, measured, classes
    )


def _answers(student: Checkpoint, settings: DistillSettings, classes: Classes | None) -> Task:
    """The task of a checkpoint that answers. Raises InputError for what is for two towers."""
    given = [name for name in ("cosine", "contrastive") if getattr(settings, name) is not None]
    if given or classes is not None:
        what = " and ".join((*given, *(["a file of classes"] if classes is not None else [])))
        raise InputError(f"{student.path}: answers {student.task}; {what} can be for models of two towers alone.")
    options = {"candidates": settings.candidates} if student.task == "retrieval" else {}
    return open_task(student.task, student.config, **options)


def recorded_source(student: Path, progress: Callable[[str], None], optional: bool = True) -> Path:
    """The checkpoint that a reduced folder was made from. Raises InputError when it is not known or gone; `optional`:
    without a teacher there is something to learn from."""
    source = origin_of(student)
    if source is None:
        raise InputError(
            f"{student}: it has no report.json that says what it was made from; name the dense checkpoint with "
            f"--teacher{', or train without one: --kd 0' if optional else ''}."
        )
    if source.place is None:
        raise InputError(f"{source.why}; say where it is with --teacher.")
    if source.why:
        progress(f"{source.why}.")
    return source.place


def check_teacher(
    teacher: Checkpoint, student: Checkpoint, settings: DistillSettings, towers: Towers | None = None
) -> None:
    """Raises InputError when the teacher's answers to the student's inputs would mean something else."""
    here = f"{teacher.path}: cannot teach {student.path}"
    theirs, ours = teacher.config, student.config
    specs = [family_of(checkpoint.family).spec(checkpoint.config) for checkpoint in (teacher, student)]
    widths = [next(layer.width for layer in reversed(spec.layers) if layer.site) for spec in specs]
    embeddings = [", ".join(f"{g.name} {g.outputs[0].shape[-1:]}" for g in spec.graphs) for spec in specs]
    for name, a, b in (
        ("model family", teacher.family, student.family),
        ("task", teacher.task, student.task),
        ("shape of embeddings", *(embeddings if teacher.task == EMBEDDINGS else ("", ""))),
        ("vocabulary size", *(None if spec.text is None else spec.text.vocabulary for spec in specs)),
    ):
        if a != b:
            raise InputError(f"{here}; its {name} is {a}, not {b}.")
    if theirs.get("id2label") != ours.get("id2label"):
        raise InputError(f"{here}; its labels are others ({_differing(theirs, ours)}).")
    if not _same_tokenizer(teacher, student):
        raise InputError(f"{here}; its tokenizer has another vocabulary.")
    if towers is not None and towers.places is not None and theirs.get("pumer", {}).get("edits"):
        raise InputError(f"{here} its tokens; they are reduced themselves. Take a dense teacher.")
    if towers is not None and towers.places is not None and towers.places.first != Places.of(teacher).first:
        raise InputError(f"{here}; one of the two leaves out the first token of its tower, and one does not.")
    if settings.hidden and teacher.config.get("pumer", {}).get("edits"):
        raise InputError(f"{here} its hidden states; they are reduced themselves. Take a dense teacher, or hidden: 0.")
    if settings.hidden and picture_input(teacher) != picture_input(student):
        raise InputError(f"{here} its hidden states; it takes images of another size. Say hidden: 0.")
    if settings.hidden and widths[0] != widths[1]:
        raise InputError(f"{here} its hidden states; they are {widths[0]} wide, not {widths[1]}.")


def _differing(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    a, b = theirs.get("id2label") or {}, ours.get("id2label") or {}
    if len(a) != len(b):
        return f"{len(a)}, not {len(b)}"
    place = next(key for key in b if a.get(key) != b[key])
    return f"number {place} is '{a.get(place)}', not '{b[place]}'"


def _same_tokenizer(teacher: Checkpoint, student: Checkpoint) -> bool:
    """Whether both give a word the same number; a teacher without a tokenizer takes the student's."""
    files = [{f.name: f for f in c.companions if f.name in TOKENIZERS} for c in (teacher, student)]
    if not files[0] or not files[1]:
        return True
    if files[0].keys() == files[1].keys() and all(
        file.read_bytes() == files[1][name].read_bytes() for name, file in files[0].items()
    ):
        return True
    words = [
        load_tokenizer(next(iter(f.values())).parent, c.family, c.config).get_vocab()
        for f, c in zip(files, (teacher, student), strict=True)
    ]
    return bool(words[0] == words[1])


def hash_weights(checkpoint: Checkpoint) -> str:
    """A hash of names, values and config: two checkpoints of the same hash give the same answers."""
    digest = hashlib.sha256(json.dumps(checkpoint.config, sort_keys=True).encode())
    for name, tensor in checkpoint.tensors():
        digest.update(name.encode())
        data: Any = tensor.contiguous().flatten().float().numpy()
        digest.update(data)
    return digest.hexdigest()


def hash_samples(samples: Sequence[Sample]) -> str:
    """A hash of what the samples are; pictures count by their name, and files by their size too.

    Raises InputError for a picture file that is not there.
    """
    digest = hashlib.sha256()
    known: dict[str, str] = {}
    for sample in samples:
        for picture in sample.pictures:
            if picture.name not in known:
                path = getattr(picture, "path", None)
                if isinstance(path, Path) and not path.is_file():
                    raise InputError(f"{sample.where}: there is no picture {path}.")
                known[picture.name] = str(path.stat().st_size) if isinstance(path, Path) else ""
            digest.update(f"{picture.name}\n{known[picture.name]}\n".encode())
        digest.update(f"{sample.id}\n{sample.text}\n{sample.target!r}\n".encode())
    return digest.hexdigest()


def hash_inputs(preprocessor: Preprocessor, teacher: Preprocessor | None) -> str:
    """A hash of how inputs are made: image settings, the tokenizer's words, the longest text, and the image settings of
    `teacher`."""
    longest = pad = words = None
    if preprocessor.texts is not None:
        longest, pad = preprocessor.longest, preprocessor.pad_id
        words = sorted(preprocessor.tokenizer.get_vocab().items())
    told = f"{preprocessor.image}{longest}{pad}{words}"
    if teacher is not None:
        told += str(teacher.image)
    return hashlib.sha256(told.encode()).hexdigest()
