"""The loop of a training: batches, records, validations, states, and going on from a state."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from pumer_convert.data.sample import Sample
from pumer_convert.errors import InputError, VerificationError
from pumer_convert.evaluation.predict import Predictions, predict
from pumer_convert.tasks.base import Task
from pumer_convert.tasks.batches import Batch, batches
from pumer_convert.tasks.likeness import Task as Likeness
from pumer_convert.training.features import FeatureLoss, near
from pumer_convert.training.job import Job
from pumer_convert.training.learner import Learner
from pumer_convert.training.metrics import Metrics, Status
from pumer_convert.training.work import WorkFolder, save_tensors, writing

RECORDS = 200
"""About how many records of metrics a training makes."""
FILL = 50
"""The most steps between two records."""


@dataclass(frozen=True)
class Best:
    """The best validation so far: after which step, and its score from 0 to 1."""

    step: int = 0
    score: float = -1.0


class Loop:
    """Runs a job's steps in all processes; the first one alone writes metrics and tells how it goes."""

    def __init__(
        self,
        job: Job,
        learner: Learner,
        work: WorkFolder,
        workers: int = 0,
        progress: Callable[[str], None] = lambda line: None,
        watch: Callable[[Status], None] = lambda status: None,
    ) -> None:
        self.job, self.learner, self.work, self.workers = job, learner, work, workers
        self.progress, self.watch = progress, watch
        self.accelerator = learner.accelerator
        self.every = max(1, min(FILL, job.steps // RECORDS))
        self.step, self.best, self.before = 0, Best(), 0.0
        self.window: list[Tensor] = []
        self.measured = job.measured
        self.status = Status(0, job.steps, None, None, 0.0, 0.0)
        if (state := work.state()) is not None:
            self._load(state)
        self.first, self.clock = self.step, time.perf_counter()
        self.metrics = Metrics(work.metrics, self.step) if self.accelerator.is_main_process else None

    def run(self) -> None:
        """All steps that are left. Raises VerificationError when the loss is no number."""
        job = self.job
        self.clock = time.perf_counter()
        while self.step < job.steps:
            epoch, begin = divmod(self.step, job.steps_per_epoch)
            parts = self._parts(epoch, begin)
            for _ in range(begin, job.steps_per_epoch):
                self._one(epoch, [next(parts) for _ in range(job.settings.accumulation)])
        if self.metrics is not None:
            self.metrics.close()

    @property
    def seconds(self) -> float:
        """Spent on the training, before it was resumed too."""
        return self.before + time.perf_counter() - self.clock

    def _parts(self, epoch: int, begin: int) -> Iterator[Batch]:
        """This process's parts of the batches of an epoch, from step `begin` of it on."""
        job, settings = self.job, self.job.settings
        world, parts = self.accelerator.num_processes, settings.accumulation
        found = batches(
            job.train,
            job.task,
            job.preprocessor,
            settings.batch_size // (world * parts),
            seed=settings.seed,
            epoch=epoch,
            train=True,
            workers=self.workers,
            start=begin * parts,
            rank=self.accelerator.process_index,
            world=world,
            teacher=job.teacher_preprocessor,
        )
        return (batch.to(self.accelerator.device) for batch in found)

    def _one(self, epoch: int, parts: list[Batch]) -> None:
        settings = self.job.settings
        self.window.append(self.learner.step(self.step, parts))
        self.step += 1
        ends = self.step % self.job.steps_per_epoch == 0
        validates = self.step % settings.validate_every == 0 if settings.validate_every else ends
        validates = bool(self.job.validation) and (validates or self.step == self.job.steps)
        saves = self.step % settings.save_every == 0 or self.step == self.job.steps
        if self.step % self.every == 0 or validates or saves or ends:
            self._record(epoch)
        if validates:
            self._validate(epoch)
        if saves:
            self._save()
        self._tell()

    def _record(self, epoch: int) -> None:
        """The means since the last record; every step's numbers are looked at here, before anything is saved."""
        rows = self.accelerator.reduce(torch.stack(self.window), "mean").cpu()
        self.window = []
        checked = (
            rows[:, :-1] if self.job.settings.amp == "fp16" else rows
        )  # fp16 skips a step whose gradient overflows
        if not bool(torch.isfinite(checked).all()):
            bad = int((~torch.isfinite(checked).all(1)).nonzero()[0])
            raise VerificationError(self._not_finite(self.step - len(rows) + bad + 1, rows[bad]))
        means = dict(zip(self.learner.measures, rows.mean(0).tolist(), strict=True))
        rate = self.learner.rate(self.step - 1)
        record = {"step": self.step, "epoch": epoch, **means, "rate": rate, "seconds": round(self.seconds, 3)}
        if self.metrics is not None:
            self.metrics.add(record)
        metric = self.learner.loss.metric
        self.status = Status(self.step, self.job.steps, means["loss"], means[metric], 0.0, 0.0, metric)

    def _not_finite(self, step: int, row: Tensor) -> str:
        what = "loss" if not bool(torch.isfinite(row[0])) else "gradient"
        state = self.work.state()
        kept = "no state had been saved yet" if state is None else f"the state before it is kept in {state}"
        return f"the {what} is not a finite number at step {step}; {kept}. Lower the learning rate, or use another amp."

    def _validate(self, epoch: int) -> None:
        job, model = self.job, self.learner.plain
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        # What is compared with all other samples is done as a whole by each process.
        shared = isinstance(self.measured, Task) and job.task.lines == 1 and len(job.validation) >= world
        samples = job.validation[rank::world] if shared else job.validation
        batch_size = max(job.settings.batch_size // world, 1)
        self.learner.ramp.set(None)
        average = self.learner.average
        with nullcontext() if average is None else average.inside(model):
            found = self._predictions(samples, batch_size)
            sums = torch.tensor([float(found.scores.double().sum()), len(found.scores)], dtype=torch.float64)
            total, count = self.accelerator.reduce(sums.to(self.accelerator.device), "sum").tolist()
            score = total / count
            better = score > self.best.score
            if better:
                self.best = Best(self.step, score)
                if self.metrics is not None:
                    save_tensors(self.work.best(self.step), dict(model.named_parameters()))
        metrics = {**found.metrics, found.metric: score}
        if self.metrics is not None:
            self.metrics.add({"step": self.step, "epoch": epoch, "validation": metrics, "best": better})
        told = ", ".join(f"{name} {value:.2%}" for name, value in metrics.items())
        self.progress(f"step {self.step}: validation {told}{', the best so far' if better else ''}")

    def _predictions(self, samples: Sequence[Sample], batch_size: int) -> Predictions:
        """What the student, as it is, makes of samples to validate with."""
        job, model, device = self.job, self.learner.plain, self.accelerator.device
        if isinstance(self.learner.loss, FeatureLoss):
            assert self.learner.teacher is not None
            theirs = job.teacher_preprocessor
            parts = batches(samples, job.task, job.preprocessor, batch_size, workers=self.workers, teacher=theirs)
            return near(model, self.learner.teacher, self.learner.loss, (part.to(device) for part in parts))
        if self.measured is None:
            self.measured = self._likeness(batch_size)
        measured, workers = self.measured, self.workers
        return predict(
            model, samples, measured, job.preprocessor, batch_size=batch_size, workers=workers, device=device
        )

    def _likeness(self, batch_size: int) -> Likeness:
        """How near pictures are to the teacher's, who is asked once."""
        job, teacher = self.job, self.learner.teacher
        assert job.towers is not None
        assert teacher is not None
        pictures = [sample.pictures[0] for sample in job.validation]
        preprocessor = job.teacher_preprocessor or job.preprocessor
        graph = job.towers.image
        return Likeness(graph, teacher.embeddings(graph, pictures, preprocessor, batch_size, self.workers))

    def _tell(self) -> None:
        each = (time.perf_counter() - self.clock) / (self.step - self.first)
        left = (self.job.steps - self.step) * each
        speed = self.job.settings.batch_size / each if each else 0.0
        last = self.status
        self.watch(replace(last, step=self.step, examples_per_second=speed, seconds_left=left))

    def _save(self) -> None:
        """Keep the state of this step; all processes write their part of it."""
        partial = self.work.partial(self.step)
        try:
            with writing(partial):
                self.accelerator.save_state(str(partial))
                if self.accelerator.is_main_process:
                    average = self.learner.average
                    if average is not None:
                        save_tensors(partial / "average.safetensors", average.values)
                    told = {"step": self.step, "best": asdict(self.best), "seconds": self.seconds}
                    (partial / "progress.json").write_text(json.dumps(told))
                self.accelerator.wait_for_everyone()
                if self.accelerator.is_main_process:
                    self.work.keep(self.step, self.best.step)
                self.accelerator.wait_for_everyone()
        except InputError:
            shutil.rmtree(partial, ignore_errors=True)  # a disk that was filled by this has room again
            raise

    def _load(self, state: Any) -> None:
        told = json.loads((state / "progress.json").read_text("utf-8"))
        self.accelerator.load_state(str(state))
        if self.learner.average is not None:
            self.learner.average.load(load_file(state / "average.safetensors"))
        self.step, self.best, self.before = told["step"], Best(**told["best"]), told["seconds"]
        self.progress(f"resuming after step {self.step} of {self.job.steps}")

    def summary(self) -> dict[str, Any]:
        """How it went, for the report; of the first process."""
        assert self.metrics is not None
        last = [record for record in self.metrics.records if "loss" in record][-1]
        return {
            "steps": self.job.steps,
            "seconds": round(self.seconds, 3),
            "metric": self.learner.loss.metric,
            "last": {name: last[name] for name in self.learner.measures},
            "validations": self.metrics.validations,
            "weights_of_step": self.best.step if self._from_best else self.job.steps,
        }

    def weights(self) -> dict[str, Tensor]:
        """The weights to be written: the best of the validations, or the last."""
        if self._from_best:
            found: dict[str, Tensor] = load_file(self.work.best(self.best.step))
            return found
        if self.learner.average is not None:
            return self.learner.average.values
        return {name: p.detach() for name, p in self.learner.plain.named_parameters()}

    @property
    def _from_best(self) -> bool:
        return self.job.settings.keep == "best" and bool(self.job.validation)
