"""What models answer to samples, how good that is, and how long the models took for it."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.data.sample import Sample
from pumer_convert.errors import InputError, VerificationError
from pumer_convert.models.body import Body
from pumer_convert.tasks.base import Measurement, Task
from pumer_convert.tasks.batches import batches, picture_batches
from pumer_convert.tasks.embeddings import EmbeddingTask, embedding_of
from pumer_convert.tasks.retrieval import Gallery, Ranks, score_matrix
from pumer_convert.tasks.retrieval import Task as Retrieval

PICTURES = 8
"""Pictures of a gallery that one model scores before it is the next model's turn."""

Progress = Callable[[int, int], None]
"""Hears of the samples done and of their number; in retrieval of pairs of caption and picture, of embeddings of the
pictures."""


@dataclass(frozen=True)
class Predictions:
    """What one model made of the samples, in their order.

    scores   [rows]  float32 on the CPU, from 0 to 1: what each answer earns. In retrieval: 1 where the caption finds
                     its image first of all (recall@1), else 0.
    answers          in words; in retrieval the identity of the image that comes first.
    ids              of the samples.
    metrics          by name, from 0 to 1: the task's metric; in retrieval all the recalls. The first is the
                     mean of `scores`.
    seconds          spent in the model alone, after a warm-up.
    passes           examples that went through the model in that time: rows; in retrieval pairs; of models that embed
                     the pictures, whose tower alone is timed.
    parts            of models that generate: the seconds per example of vision part, prefill and decode.
    """

    scores: Tensor
    answers: list[str]
    ids: list[str]
    metrics: dict[str, float]
    seconds: float
    passes: int
    parts: Mapping[str, float] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        """The name of the metric that is the mean of `scores`."""
        return next(iter(self.metrics))

    @property
    def rate(self) -> float:
        """Examples per second."""
        return self.passes / self.seconds if self.seconds else 0.0


def predict(
    model: nn.Module,
    samples: Sequence[Sample],
    task: Measurement,
    preprocessor: Preprocessor,
    *,
    batch_size: int = 32,
    workers: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Predictions:
    """The predictions of a model that is on `device`. It runs in eval mode and is left in the mode it was in.

    Retrieval scores every caption with every image of the samples, `batch_size` pairs at a time; a model of two towers
    embeds each of them once, which is far quicker. Raises InputError for samples that do not fit, VerificationError for
    logits and embeddings that are not finite.
    """
    return predict_each(
        [model],
        samples,
        task,
        preprocessor,
        batch_size=batch_size,
        workers=workers,
        device=device,
        progress=progress,
    )[0]


def predict_each(
    models: Sequence[nn.Module],
    samples: Sequence[Sample],
    task: Measurement,
    preprocessor: Preprocessor,
    *,
    batch_size: int = 32,
    workers: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> list[Predictions]:
    """The predictions of several models on the same inputs, as `predict` gives them.

    The models take turns, batch by batch, so that whatever else the machine does meanwhile slows all of them alike.
    """
    if batch_size < 1:
        raise InputError(f"a batch has 1 example or more, not {batch_size}.")
    place = torch.device(device)
    report = progress if progress is not None else lambda done, total: None
    with torch.inference_mode(), evaluating(models):
        if isinstance(task, EmbeddingTask):
            timed = [_Timed(_tower(model, task.image_graph), place, "embeddings") for model in models]
            texts = [_Timed(_tower(model, task.text_graph), place, "embeddings") for model in models]
            parts = _embed(timed, texts, samples, task, preprocessor, batch_size, workers, report)
        else:
            timed = [_Timed(_logits(model), place, "logits") for model in models]
            assert isinstance(task, Task)
            if isinstance(task, Retrieval):
                parts = _retrieve(timed, samples, task, preprocessor, batch_size, report)
            else:
                parts = _answer(timed, samples, task, preprocessor, batch_size, workers, report)
    ids = [sample.id for sample in samples]
    # Joined outside inference mode, where tensors come out ordinary.
    return [
        Predictions(torch.cat(part.scores), part.answers, ids, part.metrics, model.seconds, model.passes)
        for model, part in zip(timed, parts, strict=True)
    ]


@dataclass
class _Part:
    """What was collected of one model."""

    scores: list[Tensor]
    answers: list[str]
    metrics: dict[str, float]


Run = Callable[[Mapping[str, Tensor]], Tensor]
"""Inputs by name -> one output of a model, [rows, ...]."""


def _logits(model: nn.Module) -> Run:
    return lambda inputs: model(**inputs).logits


def _tower(model: nn.Module, graph: str) -> Run:
    assert isinstance(model, Body)
    return lambda inputs: embedding_of(model.run(graph, inputs))


class _Timed:
    """A model, or a tower of one, that notes how long it takes; `gives` is what, in words."""

    def __init__(self, run: Run, device: torch.device, gives: str) -> None:
        self.run, self.device, self.gives = run, device, gives
        self.seconds, self.passes, self.warm = 0.0, 0, False

    def __call__(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The output [L, ...], float32 on the CPU, of `Batch.inputs`; finite, or VerificationError is raised."""
        inputs = {name: value.to(self.device) for name, value in inputs.items()}
        if not self.warm:
            self.run(inputs)  # kernels are chosen and memory is taken in the first pass
            self.warm = True
        self._wait()
        start = time.perf_counter()
        found = self.run(inputs)
        self._wait()
        self.seconds += time.perf_counter() - start
        self.passes += len(found)
        found = found.float().cpu()
        if not bool(found.isfinite().all()):
            # Every comparison with a NaN is false, and argmax takes it for the highest: it would be counted as right.
            raise VerificationError(
                f"the model's {self.gives} are not finite numbers; its weights are damaged, or its training had gone "
                "wrong."
            )
        return found

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@contextlib.contextmanager
def evaluating(models: Sequence[nn.Module]) -> Iterator[None]:
    """Eval mode inside; behind it every part of the models is in the mode it was in."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _answer(
    models: Sequence[_Timed],
    samples: Sequence[Sample],
    task: Task,
    preprocessor: Preprocessor,
    batch_size: int,
    workers: int,
    progress: Progress,
) -> list[_Part]:
    parts = [_Part([], [], {}) for _ in models]
    for batch in batches(samples, task, preprocessor, batch_size, workers=workers):
        for model, part in zip(models, parts, strict=True):
            logits = model(batch.inputs)
            part.scores.append(task.scores(logits, batch.target))
            part.answers += task.answers(logits)
        progress(batch.indices[-1] + 1, len(samples))
    for part in parts:
        part.metrics = task.summary(torch.cat(part.scores))
    return parts


def _retrieve(
    models: Sequence[_Timed],
    samples: Sequence[Sample],
    task: Task,
    preprocessor: Preprocessor,
    block: int,
    progress: Progress,
) -> list[_Part]:
    task.rows(samples)  # raises for samples that are not retrieval's
    gallery = Gallery.of(samples)
    columns: list[list[Tensor]] = [[] for _ in models]
    for start in range(0, len(gallery.pictures), PICTURES):
        some = replace(gallery, pictures=gallery.pictures[start : start + PICTURES])
        for model, scores in zip(models, columns, strict=True):
            scores.append(score_matrix(some, preprocessor, model, block=block))
        done = start + len(some.pictures)
        progress(done * len(samples), len(gallery.pictures) * len(samples))
    images = list(dict.fromkeys(str(sample.target) for sample in samples))
    return [_ranking(torch.cat(scores, 1), gallery.truth, images) for scores in columns]


def _ranking(scores: Tensor, truth: Sequence[int], images: Sequence[str]) -> _Part:
    """Of `scores` [captions, images], whose right images are `truth`."""
    ranks = Ranks.of(lambda part: scores[part], truth, len(images))
    return _Part([(ranks.image == 0).float()], [images[i] for i in ranks.first.tolist()], ranks.recalls())


def _embed(
    images: Sequence[_Timed],
    texts: Sequence[_Timed],
    samples: Sequence[Sample],
    task: EmbeddingTask,
    preprocessor: Preprocessor,
    batch_size: int,
    workers: int,
    progress: Progress,
) -> list[_Part]:
    task.check(samples)
    pictures, words = task.pictures_in(samples), task.texts_of(samples)
    seen: list[list[Tensor]] = [[] for _ in images]
    for number, batch in enumerate(picture_batches(pictures, preprocessor, batch_size, workers), 1):
        for model, found in zip(images, seen, strict=True):
            found.append(model(batch))
        progress(min(number * batch_size, len(pictures)), len(pictures))
    read = [[torch.empty(0)] for _ in texts]  # all that there is where a task has no texts
    for start in range(0, len(words), batch_size):
        given = preprocessor.words(words[start : start + batch_size])
        for model, found in zip(texts, read, strict=True):
            found.append(model({name: torch.from_numpy(value) for name, value in given.items()}))
    judged = [task.judge(torch.cat(some), torch.cat(said), samples) for some, said in zip(seen, read, strict=True)]
    return [_Part([part.scores], part.answers, part.metrics) for part in judged]
