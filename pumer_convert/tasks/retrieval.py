"""Image-text retrieval with a ranking head: recall at 1, 5 and 10, both ways."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.data.sample import Picture, Sample
from pumer_convert.errors import InputError
from pumer_convert.tasks.base import Example, Examples, ModelInput
from pumer_convert.tasks.base import Task as Base

CANDIDATES = 16
"""One right caption and fifteen wrong ones for an image, as in ViLT, METER and PuMer."""
RANKS = (1, 5, 10)


class Task(Base):
    """A caption and its picture against the captions of other pictures; the head gives one number per pair.

    A row is a query of `candidates` lines: the picture with its own caption first, then with others'.
    """

    name = "retrieval"

    def __init__(self, config: dict[str, Any], candidates: int = CANDIDATES) -> None:
        if candidates < 2:
            raise InputError(f"retrieval needs 2 candidates or more for a query, not {candidates}.")
        self.lines = candidates

    def rows(
        self, samples: Sequence[Sample], *, train: bool = False, seed: int = 0, epoch: int = 0
    ) -> Sequence[Example]:
        """A query for every sample. The wrong captions are drawn anew each epoch in training, else never.

        Raises InputError when the samples are of one image only.
        """
        self.check(samples)
        check_images(samples)
        return RetrievalExamples(samples, self.lines, (seed, epoch) if train else (seed,))

    def target(self, rows: Sequence[Example]) -> dict[str, Tensor]:
        """{"right": int64 [rows]}: the place of the right candidate, which is the first."""
        return {"right": torch.zeros(len(rows), dtype=torch.int64)}

    def per_query(self, logits: Tensor) -> Tensor:
        """Logits [rows * candidates, 1] as [rows, candidates]."""
        return logits.reshape(-1, self.lines)

    def loss(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy over the candidates of a query, mean over queries."""
        return F.cross_entropy(self.per_query(logits).float(), target["right"])

    def distillation(
        self, student: Tensor, teacher: Tensor, target: Mapping[str, Tensor], temperature: float = 1.0
    ) -> Tensor:
        """The KL over the candidates of a query: over the one logit of a pair, as published, it is always zero."""
        return super().distillation(self.per_query(student), self.per_query(teacher), target, temperature)

    def scores(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """1 where the right candidate has the highest logit, else 0. For recalls see `score_matrix`."""
        ranked = self.per_query(logits)
        right = ranked.gather(1, target["right"][:, None])
        # A tie is no success: a model that gives everything the same score knows nothing.
        return ((ranked >= right).sum(-1) == 1).float()

    def answers(self, logits: Tensor) -> list[str]:
        """The place of the candidate with the highest logit; "0" is the right one."""
        return [str(i) for i in self.per_query(logits).argmax(-1).tolist()]


def check_images(samples: Sequence[Sample]) -> None:
    """Raises InputError when the captions are of one image only."""
    if all(str(sample.target) == str(samples[0].target) for sample in samples):
        raise InputError(f"{samples[0].where}: all captions are of one image; there is nothing to tell apart.")


class RetrievalExamples(Examples):
    """Each sample's picture with its caption, then with `lines` - 1 captions of other pictures."""

    def __init__(self, samples: Sequence[Sample], lines: int, key: tuple[int, ...]) -> None:
        super().__init__(samples)
        self.candidates, self.key = lines, key
        captions: dict[str, list[int]] = {}
        for place, sample in enumerate(samples):
            captions.setdefault(str(sample.target), []).append(place)
        self.captions = list(captions.values())
        self.number = {image: i for i, image in enumerate(captions)}

    def make(self, index: int) -> Example:
        """The query of one sample."""
        sample = self.samples[index]
        random = np.random.default_rng([*self.key, index])
        others, wanted = len(self.captions) - 1, self.candidates - 1
        drawn = random.choice(others, wanted, replace=others < wanted)
        own = self.number[str(sample.target)]
        texts = [sample.text]
        for image in drawn + (drawn >= own):  # the numbers of all images but its own
            texts.append(self.samples[int(random.choice(self.captions[image]))].text)
        return Example(sample, index, tuple(ModelInput(sample.pictures, text) for text in texts))


@dataclass(frozen=True)
class Gallery:
    """An evaluation of every caption against every image: the images, each once, and the captions' right ones.

    `truth[c]` is the place among `pictures` of the image that caption c belongs to.
    """

    captions: tuple[str, ...]
    pictures: tuple[Picture, ...]
    truth: tuple[int, ...]

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> "Gallery":
        """The gallery of samples, whose targets say which image each caption belongs to."""
        pictures: dict[str, Picture] = {}
        for sample in samples:
            pictures.setdefault(str(sample.target), sample.pictures[0])
        place = {image: i for i, image in enumerate(pictures)}
        truth = tuple(place[str(sample.target)] for sample in samples)
        return cls(tuple(sample.text for sample in samples), tuple(pictures.values()), truth)


Score = Callable[[dict[str, Tensor]], Tensor]
"""Model inputs as `Batch.inputs` has them -> logits [L, 1]."""


def score_matrix(
    gallery: Gallery,
    preprocessor: Preprocessor,
    score: Score,
    *,
    block: int = 64,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """The score of every caption with every image, float32 [captions, images] on the CPU.

    `block` pairs at a time go through `score`; every picture is decoded once. `progress` hears of the pairs done.
    """
    result = torch.empty(len(gallery.captions), len(gallery.pictures))
    texts = [preprocessor.text(gallery.captions[i : i + block]) for i in range(0, len(gallery.captions), block)]
    for column, picture in enumerate(gallery.pictures):
        arranged = preprocessor.arrange([[preprocessor.pixels(picture.open(), name=picture.name)]])
        seen = {name: torch.from_numpy(value).to(device) for name, value in arranged.items()}
        for number, (ids, mask) in enumerate(texts):
            logits = score(
                {
                    "input_ids": torch.from_numpy(ids).to(device),
                    "attention_mask": torch.from_numpy(mask).to(device),
                    **{name: value.expand(len(ids), *value.shape[1:]) for name, value in seen.items()},
                }
            )
            result[number * block : number * block + len(ids), column] = logits.detach().float().reshape(-1).cpu()
        progress((column + 1) * len(gallery.captions), result.numel())
    return result


@dataclass(frozen=True)
class Ranks:
    """How many wrong ones stand before the right one: `image` [captions] of each caption's image, `text` [images] of
    the best caption of each image. `first` [captions] is the place of the image that comes first for a caption.

    An image is found when any of its captions is among the first. A wrong one with the same score counts as before the
    right one, so constant scores earn nothing.
    """

    image: Tensor
    text: Tensor
    first: Tensor

    @classmethod
    def of(cls, scores: Callable[[slice], Tensor], truth: Sequence[int], images: int, block: int = 1024) -> "Ranks":
        """Of `scores`, which gives those of some captions with all images, [captions, images]: `block` captions at a
        time, each twice. `truth[c]` is the image of caption c."""
        right = torch.as_tensor(truth)
        parts = [slice(start, start + block) for start in range(0, len(right), block)]
        best, before = torch.full((images,), -torch.inf), torch.zeros(images, dtype=torch.int64)
        rank, first = torch.empty_like(right), torch.empty_like(right)
        for part in parts:
            some = scores(part)
            mine = some.gather(1, right[part, None])
            rank[part] = ((some >= mine) & ~_own(right[part], images)).sum(1)
            first[part] = some.argmax(1)
            best.scatter_reduce_(0, right[part], mine[:, 0].float(), "amax")
        for part in parts:
            before += ((scores(part) >= best) & ~_own(right[part], images)).sum(0)
        return cls(rank, before[torch.unique(right)], first)

    def recalls(self, ranks: Sequence[int] = RANKS) -> dict[str, float]:
        """Recall at each rank from 0 to 1: "image_r@1" ... finds the image of a caption, "text_r@1" ... a caption of an
        image, and "recall", the mean of all."""
        found = {f"image_r@{k}": float((self.image < k).double().mean()) for k in ranks}
        found |= {f"text_r@{k}": float((self.text < k).double().mean()) for k in ranks}
        return {**found, "recall": sum(found.values()) / len(found)}


def _own(right: Tensor, images: int) -> Tensor:
    return F.one_hot(right, images).bool()


def recalls(scores: Tensor, truth: Sequence[int], ranks: Sequence[int] = RANKS) -> dict[str, float]:
    """The recalls of `scores` [captions, images]; see `Ranks`."""
    return Ranks.of(lambda part: scores[part], truth, scores.shape[1]).recalls(ranks)
