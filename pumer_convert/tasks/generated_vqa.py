"""Questions that a language model answers in its own words (VQAv2, GQA, TextVQA), by the official VQA metric."""

from collections.abc import Mapping, Sequence

import torch

from pumer_convert.data.sample import Sample
from pumer_convert.tasks.answers import accuracy, normalise
from pumer_convert.tasks.base import GenerationTask, Judgement


class Task(GenerationTask):
    """An answer is right by the humans who gave it; where one answer is given, by that alone (exact match, GQA)."""

    name = "vqa"

    def judge(self, answers: Sequence[str], samples: Sequence[Sample]) -> Judgement:
        """See `GenerationTask`."""
        earned = [_earned(normalise(answer), sample.target) for answer, sample in zip(answers, samples, strict=True)]
        scores = torch.tensor(earned, dtype=torch.float32)
        return Judgement(scores, list(answers), {"vqa_accuracy": float(scores.mean())})


def _earned(answer: str, target: Mapping[str, float] | Sequence[str]) -> float:
    if isinstance(target, Mapping):
        return max((float(score) for given, score in target.items() if normalise(given) == answer), default=0.0)
    return accuracy(answer, [normalise(given) for given in target])
