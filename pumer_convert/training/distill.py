"""Distillation: the reduced student learns from the task and from its dense teacher; written as a checkpoint folder."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, set_seed

from pumer_convert.checkpoint.locate import beside
from pumer_convert.checkpoint.read import as_checkpoint
from pumer_convert.convert.build import build
from pumer_convert.data.prompts import read_classes
from pumer_convert.data.sample import Sample
from pumer_convert.errors import InputError
from pumer_convert.models.body import Body
from pumer_convert.models.family import family_of
from pumer_convert.recipe.settings import DistillSettings
from pumer_convert.system.output import check_out
from pumer_convert.tasks.base import Task
from pumer_convert.training.cache import TeacherCache
from pumer_convert.training.device import accelerated
from pumer_convert.training.embedding_loss import EmbeddingLoss
from pumer_convert.training.features import FeatureLoss
from pumer_convert.training.job import Job, hash_inputs, hash_samples, hash_weights, make_job
from pumer_convert.training.learner import Learner
from pumer_convert.training.loop import Loop
from pumer_convert.training.loss import AnswerLoss, Loss
from pumer_convert.training.metrics import Status
from pumer_convert.training.output import earlier_report, write_output
from pumer_convert.training.teacher import Teacher
from pumer_convert.training.towers import check_still, freeze, told
from pumer_convert.training.work import WorkFolder
from pumer_convert.weights import Checkpoint

PLAIN = "The student has no reducers: this was a plain finetune."


def distill(
    student: Path | str | Checkpoint,
    teacher: Path | str | Checkpoint | None,
    train: Sequence[Sample],
    validation: Sequence[Sample] | None = None,
    out: Path | str | None = None,
    settings: DistillSettings | None = None,
    *,
    classes: Path | str | None = None,
    device: str = "auto",
    workers: int = 0,
    cache: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda line: None,
    watch: Callable[[Status], None] = lambda status: None,
) -> dict[str, Any]:
    """Finetune the checkpoint `student`, at a path or open, on `train` and write the folder `out` (default:
    STUDENT-distilled); gives its report.

    `teacher` is the dense checkpoint; None: the one that the student's report.json says it was made from, or nobody
    when the settings give it no weight. `validation` samples choose the best weights. `cache` is a folder for the
    teacher's answers, which several trainings may share (default: with the state, gone after the training). `workers`
    processes decode pictures. State is kept in `.OUT.training` beside `out`: `resume` goes on from there, and ends
    with the weights that an uninterrupted run would have.

    Of a vision part all is trained, by the pictures alone (see features.py). Of another model that gives embeddings the
    tower of pictures is trained, and all else stands still: to embed pictures as the teacher does and, where `train`
    has captions, as similar to those; else by the pictures alone. What validates it is retrieval where samples have
    captions, their classes (`classes`: a file of names and templates, see `read_classes`), or the cosine to the
    teacher.

    Runs in one process, or in all that a launcher such as `accelerate launch` or `torchrun` has started. `progress`
    hears sentences, `watch` every step, both in the first process alone. Raises InputError for what does not fit,
    VerificationError when the loss is no number any more; the last good state stays then.
    """
    chosen = settings if settings is not None else DistillSettings()
    student = as_checkpoint(student)
    out = Path(out) if out is not None else beside(student.path, "distilled")
    named = None if classes is None else read_classes(Path(classes))
    job = make_job(student, teacher, train, validation or (), out, chosen, progress, named)
    work = WorkFolder(out)
    with accelerated(device, chosen.amp) as accelerator:
        if chosen.batch_size % (accelerator.num_processes * chosen.accumulation):
            raise InputError(
                f"a batch of {chosen.batch_size} does not divide into {accelerator.num_processes} process(es) x "
                f"{chosen.accumulation} part(s)."
            )
        run = _on_first(accelerator, lambda: _run(job, accelerator))
        done = _on_first(accelerator, lambda: _prepare(job, work, run, resume, overwrite))
        if done:
            return dict(done)
        # The tokens of a picture take much room: without need they are not kept.
        once = job.towers is not None and job.towers.places is not None and chosen.epochs == 1
        folder = Path(cache) if cache is not None else None if once else work.path
        try:
            set_seed(chosen.seed, device_specific=True)
            loss = _loss(job, accelerator)
            teaching = _teacher(job, run, accelerator, folder, loss)
            model, notes = build(job.student), _on_first(accelerator, lambda: _notes(job))
            notes += _freeze(job, model)
            learner = Learner(model, loss, chosen, job.rates, job.steps, accelerator, teaching)
            heard = (progress, watch) if accelerator.is_main_process else ()
            for note in notes if heard else ():
                progress(note)
            loop = Loop(job, learner, work, workers, *heard)
            loop.run()
            return dict(_on_first(accelerator, lambda: _finish(job, loop, work, run, overwrite, notes)))
        finally:
            if accelerator.is_main_process and work.state() is None:
                work.remove()


def _on_first(accelerator: Accelerator, do: Callable[[], Any]) -> Any:
    """What `do` gives in the first process, in all of them; its error likewise, so that none waits for ever."""
    box: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            box[0] = do()
        except Exception as error:
            box[1] = error
    broadcast_object_list(box)
    if box[1] is not None:
        raise box[1]
    return box[0]


def _prepare(job: Job, work: WorkFolder, run: dict[str, Any], resume: bool, overwrite: bool) -> dict[str, Any]:
    """Make the work folder ready; or the report, when this very run is finished already and only did not say so."""
    report = earlier_report(job.out)
    if resume and report.get("distill", {}).get("run") == _hash(run):
        work.remove()
        return report
    check_out(job.out, overwrite, job.inputs)
    work.begin(run, resume, overwrite)
    work.clean()
    return {}


def _notes(job: Job) -> list[str]:
    """What there is to say of the samples."""
    samples = (*job.train, *job.validation)
    notes = [job.preprocessor.cut([s.text for s in samples]) if job.task.reads else "", job.task.unanswerable(samples)]
    if job.towers is not None and job.towers.alone:
        by = "the cosine to the teacher's embeddings" if job.towers.places is None else "the teacher's tokens"
        notes.append(f"taught by pictures alone, for {job.towers.alone}: by {by}.")
    return [note for note in notes if note]


def _loss(job: Job, accelerator: Accelerator) -> Loss:
    """What the student learns by."""
    if job.towers is None:
        assert isinstance(job.task, Task)
        return AnswerLoss(job.task, job.settings)
    if job.towers.places is not None:
        return FeatureLoss(job.towers.cosine, job.settings.kd, job.towers.places, job.dense_places)
    rank, world = accelerator.process_index, accelerator.num_processes
    return EmbeddingLoss(job.towers, job.settings, accelerator.gather, rank, world)


def _freeze(job: Job, model: Body) -> list[str]:
    """Of two towers leave that of pictures alone to be trained, and say so."""
    if job.towers is None:
        return []
    spec = family_of(job.student.family).spec(job.student.config)
    still = freeze(model, job.towers, job.preprocessor, spec)
    assert job.teacher is not None
    check_still(job.teacher, model, still)
    return [told(model, still)]


def _finish(
    job: Job, loop: Loop, work: WorkFolder, run: dict[str, Any], overwrite: bool, notes: list[str]
) -> dict[str, Any]:
    """Write the output folder and give its report."""
    assert loop.metrics is not None
    training = {
        "run": _hash(run),
        **loop.summary(),
        "settings": job.settings.to_json(),
        "rates": dataclasses.asdict(job.rates),
        "student": {"path": str(job.student.path), "hash": run["the student"], "reduced": job.reduced},
        "teacher": None if job.teacher is None else {"path": str(job.teacher.path), "hash": run["the teacher"]},
        "samples": {"train": len(job.train), "validation": len(job.validation)},
        "processes": loop.accelerator.num_processes,
        "device": str(loop.accelerator.device),
        "notes": [*(() if job.reduced else (PLAIN,)), *notes],
    }
    report = write_output(job, loop.weights(), training, loop.metrics, work, overwrite)
    work.remove()
    return report


def _run(job: Job, accelerator: Accelerator) -> dict[str, Any]:
    """All that the result follows from: to resume, it must be the same; and a finished run is known by it."""
    teacher = job.teacher
    return {
        **job.settings.to_json(),
        "the student": hash_weights(job.student),
        "the teacher": None if teacher is None else hash_weights(teacher),
        "the training data": hash_samples(job.train),
        "the validation data": hash_samples(job.validation),
        "the preprocessing": hash_inputs(job.preprocessor, job.teacher_preprocessor),
        **({} if job.classes is None else {"the classes": dataclasses.asdict(job.classes)}),
        "the number of processes": accelerator.num_processes,
        "the kind of device": accelerator.device.type,
    }


def _teacher(
    job: Job, run: dict[str, Any], accelerator: Accelerator, folder: Path | None, loss: Loss
) -> Teacher | None:
    if job.teacher is None:
        return None
    cache = None
    if folder is not None and job.repeats and not job.settings.hidden:
        names = ("the teacher", "the training data", "the preprocessing", "amp")
        what = {"task": job.student.task, **{name: run[name] for name in names}}
        what |= {} if job.towers is None else {"captions": job.towers.compares}
        where = (folder, _hash(what), len(job.train), job.width)
        _on_first(accelerator, lambda: TeacherCache(*where).describe(what))
        cache = TeacherCache(*where)
    hidden = job.settings.hidden > 0
    return Teacher(job.teacher, accelerator.device, accelerator.autocast, cache, hidden, loss.ask)


def _hash(told: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
