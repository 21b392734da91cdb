"""Batches, in the same order and with the same augmentation whatever the number of worker processes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.data.sample import Picture, Sample
from pumer_convert.errors import InputError, PumerError
from pumer_convert.system.child_process import end_with_parent
from pumer_convert.tasks.base import Example, Rows

__all__ = ["Batch", "Preprocessor", "batch_count", "batches", "collate"]


@dataclass(frozen=True)
class Batch:
    """Some rows, ready for the model.

    `inputs`: input_ids, attention_mask int64 [L, T] where they have texts, and the pictures as `Preprocessor.arrange`
    gives them. L is rows * task.lines. `target` is the task's own, `ids` and `indices` (places among the samples) are
    one per row.
    `teacher_pictures` are the same pictures as the teacher takes them, None where it takes them like the student.
    """

    inputs: dict[str, Tensor]
    target: dict[str, Tensor]
    ids: list[str]
    indices: list[int]
    teacher_pictures: dict[str, Tensor] | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on a device."""
        inputs, target, theirs = (
            {name: value.to(device, non_blocking=True) for name, value in part.items()}
            for part in (self.inputs, self.target, self.teacher_pictures or {})
        )
        return Batch(inputs, target, self.ids, self.indices, theirs or None)


def batch_count(samples: int, batch_size: int, *, train: bool, world: int = 1) -> int:
    """How many batches an epoch has: the same for every rank."""
    whole = batch_size * world
    return samples // whole if train else -(-samples // whole)


def batches(
    samples: Sequence[Sample],
    task: Rows,
    preprocessor: Preprocessor,
    batch_size: int,
    *,
    seed: int = 0,
    epoch: int = 0,
    train: bool = False,
    workers: int = 0,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
    teacher: Preprocessor | None = None,
) -> Iterator[Batch]:
    """The batches of one epoch, from number `start` on.

    In training the samples are shuffled, augmented if the preprocessor says how, and an incomplete last batch is left
    out; else they come in their order and all of them. All of it follows from (seed, epoch) alone. `batch_size` is of
    one process: rank r of `world` gets the r-th part of every `batch_size` * `world` samples, so that together they
    see what one process sees at their total (a rank may go without in the last, incomplete batch of an evaluation).
    `teacher` is the preprocessing of a teacher that takes pictures otherwise.

    Raises InputError at once for samples or sizes that do not fit, and when a picture turns out to be broken.
    """
    if teacher is not None and (preprocessor.cuts or teacher.cuts):
        raise InputError("the teacher cuts pictures into other tiles, whose tokens say nothing of these.")
    if batch_size < 1 or not 0 <= rank < world or start < 0:
        raise InputError(f"batches of {batch_size}, from {start} on, for rank {rank} of {world}: that is not possible.")
    rows = task.rows(samples, train=train, seed=seed, epoch=epoch)
    count = batch_count(len(rows), batch_size, train=train, world=world)
    if count == 0:
        raise InputError(f"{len(rows)} samples do not fill one batch of {batch_size * world}.")
    order = np.random.default_rng([seed, epoch]).permutation(len(rows)) if train else np.arange(len(rows))
    whole = batch_size * world
    parts = [order[i * whole :][rank * batch_size : (rank + 1) * batch_size].tolist() for i in range(start, count)]
    key = (seed, epoch) if train else None
    return _loaded(_Batches(rows, task, preprocessor, key, teacher), [part for part in parts if part], workers, seed)


def picture_batches(
    pictures: Sequence[Picture], preprocessor: Preprocessor, batch_size: int, workers: int = 0
) -> Iterator[dict[str, Tensor]]:
    """The pictures in their order, `batch_size` at a time, as the model takes them. Raises InputError when one turns
    out to be broken."""
    parts = [list(range(len(pictures)))[start : start + batch_size] for start in range(0, len(pictures), batch_size)]
    return _loaded(_PictureBatches(pictures, preprocessor), parts, workers)


def collate(
    rows: Sequence[Example],
    task: Rows,
    preprocessor: Preprocessor,
    key: tuple[int, int] | None = None,
    teacher: Preprocessor | None = None,
) -> Batch:
    """One batch of the rows; `key` is (seed, epoch) where pictures are to be augmented, None where not."""
    words = preprocessor.words([line.text for row in rows for line in row.lines]) if task.reads else {}
    inputs = {name: torch.from_numpy(value) for name, value in words.items()} | _pictures(rows, preprocessor, key)
    theirs = None if teacher is None else _pictures(rows, teacher, key)
    return Batch(inputs, task.target(rows), [row.sample.id for row in rows], [row.index for row in rows], theirs)


def _pictures(rows: Sequence[Example], preprocessor: Preprocessor, key: tuple[int, int] | None) -> dict[str, Tensor]:
    lines: list[list[np.ndarray]] = []
    for row in rows:
        made: dict[tuple[str, int], np.ndarray] = {}
        for line in row.lines:
            lines.append([_pixels(p, i, row, preprocessor, key, made) for i, p in enumerate(line.pictures)])
    return {name: torch.from_numpy(value) for name, value in preprocessor.arrange(lines).items()}


def _pixels(
    picture: Picture,
    place: int,
    row: Example,
    preprocessor: Preprocessor,
    key: tuple[int, int] | None,
    made: dict[tuple[str, int], np.ndarray],
) -> np.ndarray:
    """The pixels of a row's picture; the candidates of a query share the one they have in common."""
    if (picture.name, place) not in made:
        random = None if key is None else np.random.default_rng([*key, row.index, place])
        if preprocessor.cuts:  # one tile, always the same: what a teacher gives is kept by the row
            tiles = preprocessor.tiles(picture.open(), picture.name)
            made[picture.name, place] = tiles[row.index % len(tiles)]
        else:
            made[picture.name, place] = preprocessor.pixels(picture.open(), random, picture.name)
    return made[picture.name, place]


class _Parts(Dataset[Any], ABC):
    """Batches by the places of what is in them."""

    @abstractmethod
    def make(self, places: list[int]) -> Any:
        """One batch."""

    def __getitem__(self, places: list[int]) -> Any:
        # Raised in a worker, it would reach the user as the worker's whole traceback.
        try:
            return self.make(places)
        except PumerError as error:
            return error


class _Batches(_Parts):
    def __init__(
        self,
        rows: Sequence[Example],
        task: Rows,
        preprocessor: Preprocessor,
        key: tuple[int, int] | None,
        teacher: Preprocessor | None,
    ) -> None:
        self.rows, self.how = rows, (task, preprocessor, key, teacher)

    def make(self, places: list[int]) -> Batch:
        return collate([self.rows[i] for i in places], *self.how)


class _PictureBatches(_Parts):
    def __init__(self, pictures: Sequence[Picture], preprocessor: Preprocessor) -> None:
        self.pictures, self.preprocessor = pictures, preprocessor

    def make(self, places: list[int]) -> dict[str, Tensor]:
        some = (self.pictures[i] for i in places)
        arranged = self.preprocessor.arrange([[self.preprocessor.pixels(p.open(), name=p.name)] for p in some])
        return {name: torch.from_numpy(value) for name, value in arranged.items()}


def _begin(worker: int) -> None:
    end_with_parent()


def _unchanged(batch: Any) -> Any:
    return batch


def _loaded(dataset: _Parts, parts: list[list[int]], workers: int, seed: int = 0) -> Iterator[Any]:
    """The batches of these parts, in their order."""
    # Its own generator: the loader would otherwise draw from the one that dropout uses, and a resumed run would differ.
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=parts,
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=_begin,
        generator=torch.Generator().manual_seed(seed),
    )
    for batch in loader:
        if isinstance(batch, PumerError):
            raise batch
        yield batch
