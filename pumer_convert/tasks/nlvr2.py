"""NLVR2 (Suhr et al. 2019): is a sentence true of a pair of images? Metric: accuracy."""

from pumer_convert.tasks.classes import ClassTask


class Task(ClassTask):
    """Two pictures and a sentence, True or False."""

    name = "nlvr2"
    pictures = 2
    classes = ("False", "True")
