"""SNLI-VE (Xie et al. 2019): does an image entail a sentence? Metric: accuracy."""

from pumer_convert.data.sample import LABELS
from pumer_convert.tasks.classes import ClassTask


class Task(ClassTask):
    """A picture and a sentence: contradiction, neutral or entailment."""

    name = "ve"
    classes = LABELS
