"""Whether objects are seen that are not there (POPE, Li et al., EMNLP 2023): yes or no, by the metrics of its own
evaluation."""

from collections.abc import Sequence

import torch

from pumer_convert.data.sample import Sample
from pumer_convert.tasks.base import GenerationTask, Judgement


class Task(GenerationTask):
    """Accuracy; precision, recall and F1 of "yes"; and how often the answer is "yes"."""

    name = "pope"

    def judge(self, answers: Sequence[str], samples: Sequence[Sample]) -> Judgement:
        """See `GenerationTask`. The answers come back as the words that they are taken for."""
        said, right = [taken(answer) for answer in answers], [sample.target for sample in samples]
        scores = torch.tensor([a == b for a, b in zip(said, right, strict=True)], dtype=torch.float32)
        hits = sum(a == b == "yes" for a, b in zip(said, right, strict=True))
        claimed, there = said.count("yes"), right.count("yes")
        metrics = {
            "accuracy": float(scores.mean()),
            "precision": hits / claimed if claimed else 0.0,
            "recall": hits / there if there else 0.0,
            "f1": 2 * hits / (claimed + there) if claimed + there else 0.0,
            "yes": claimed / len(said),
        }
        return Judgement(scores, said, metrics)


def taken(answer: str) -> str:
    """What the evaluation takes an answer for: "no" where its first sentence says no or not, else "yes"."""
    words = answer.partition(".")[0].replace(",", "").split()
    return "no" if {"No", "not", "no"} & set(words) else "yes"
