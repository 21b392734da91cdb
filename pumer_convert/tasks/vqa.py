"""Visual question answering (VQAv2, Goyal et al. 2017): soft scores in training, the official metric in evaluation."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pumer_convert.data.sample import Sample
from pumer_convert.errors import InputError
from pumer_convert.models.labels import names, placeholders
from pumer_convert.tasks.answers import accuracy, normalise, soft_score
from pumer_convert.tasks.base import Example
from pumer_convert.tasks.base import Task as Base


class Task(Base):
    """A picture and a question; the answers are those of the checkpoint's id2label."""

    name = "vqa"
    metric = "vqa_accuracy"

    def __init__(self, config: dict[str, Any]) -> None:
        self.labels = names(config)
        # Labels that are normalised alike ("two" and "2") answer alike, so they share every score.
        self.places: dict[str, list[int]] = {}
        for place, label in enumerate(self.labels):
            self.places.setdefault(normalise(label), []).append(place)

    def check(self, samples: Sequence[Sample]) -> None:
        """Raises InputError also when the checkpoint's answers have no names, or nobody gave any of them."""
        super().check(samples)
        if placeholders(self.labels):
            raise InputError(
                "the checkpoint does not name its answers (its id2label says LABEL_0, LABEL_1, ...), so nothing can "
                "be compared with them; put the names into its config.json."
            )
        given = [sample for sample in samples if sample.target]
        if given and not any(self._known(given)):
            raise InputError(
                f"{given[0].where}: no answer of these {len(given)} samples is among the checkpoint's "
                f"{len(self.labels)} answers ({', '.join(self.labels[:3])}, ...)."
            )

    def unanswerable(self, samples: Sequence[Sample]) -> str:
        """A sentence on samples that have no answer, or none that the checkpoint can give."""
        lost = [sample for sample, known in zip(samples, self._known(samples), strict=True) if not known]
        if not lost:
            return ""
        return (
            f"{len(lost)} of {len(samples)} samples have no answer among the {len(self.labels)} of the checkpoint "
            f"({lost[0].where}), so nothing that it says is right there; they count."
        )

    def _known(self, samples: Sequence[Sample]) -> Iterator[bool]:
        """Whether the checkpoint has an answer of each sample."""
        met: dict[str, bool] = {}  # millions of answers are few different ones
        for sample in samples:
            for answer in set(sample.target) - met.keys():
                met[answer] = normalise(answer) in self.places
            yield any(met[answer] for answer in sample.target)

    def target(self, rows: Sequence[Example]) -> dict[str, Tensor]:
        """{"soft", "score"}: float32 [rows, labels], what training aims at and what each answer earns."""
        soft = torch.zeros(len(rows), len(self.labels))
        score = torch.zeros_like(soft)
        for i, row in enumerate(rows):
            given = row.sample.target
            if isinstance(given, Mapping):
                for answer, value in given.items():
                    for place in self.places.get(normalise(answer), ()):
                        soft[i, place] = score[i, place] = max(float(value), float(score[i, place]))
                continue
            humans = [normalise(answer) for answer in given]
            for answer, count in Counter(humans).items():
                for place in self.places.get(answer, ()):
                    soft[i, place] = soft_score(count, len(humans))
                    score[i, place] = accuracy(answer, humans)
        return {"soft": soft, "score": score}

    def loss(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """Binary cross-entropy of every answer with its soft score: the sum over answers, mean over rows.

        ViLT and METER take the mean over all elements times the number of answers, which is the same. Without that
        factor (as in PuMer's code) the loss of one example would be divided by 3129, though all but a few of those
        terms are zero: beside it the distillation term, a sum over classes, would be all that counts, and the
        published learning rates, which were found with the factor, would be far too small.
        """
        return F.binary_cross_entropy_with_logits(logits.float(), target["soft"]) * logits.shape[-1]

    def scores(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """The official accuracy of the answer with the highest logit."""
        best = logits.argmax(-1, keepdim=True)
        return target["score"].gather(1, best)[:, 0]

    def answers(self, logits: Tensor) -> list[str]:
        """The answer with the highest logit."""
        return [self.labels[i] for i in logits.argmax(-1).tolist()]


def build_vocabulary(samples: Iterable[Sample], minimum: int = 9) -> dict[str, str]:
    """An id2label of the answers that are the right one of at least `minimum` samples, in alphabetical order.

    The right one is the answer that most humans gave, the first of them in a tie. 9 is the originals' minimum, which
    gave them 3129 answers of VQAv2's train and val; they counted its multiple_choice_answer, which may differ in a
    tie, so for a published checkpoint use its own id2label. Raises InputError when no answer is frequent enough.
    """
    counts = Counter(answer for sample in samples if (answer := _right(sample.target)) is not None)
    found = sorted(answer for answer, count in counts.items() if count >= minimum)
    if not found:
        raise InputError(f"no answer is the right one of {minimum} samples; lower the minimum.")
    return {str(i): answer for i, answer in enumerate(found)}


def _right(target: Mapping[str, float] | Sequence[str]) -> str | None:
    if not target:
        return None
    if isinstance(target, Mapping):
        return normalise(max(target, key=lambda answer: target[answer]))
    return Counter(normalise(answer) for answer in target).most_common(1)[0][0]
