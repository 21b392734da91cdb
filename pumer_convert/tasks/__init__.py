"""Tasks. A task is a module with a class `Task` (see base.py) and one line here."""

import importlib
from typing import TYPE_CHECKING, Any

from pumer_convert.errors import InputError, nearest
from pumer_convert.weights import EMBEDDINGS as EMBEDDINGS

if TYPE_CHECKING:
    from pumer_convert.tasks.base import Task

TASKS = {
    "vqa": "pumer_convert.tasks.vqa",
    "nlvr2": "pumer_convert.tasks.nlvr2",
    "ve": "pumer_convert.tasks.ve",
    "retrieval": "pumer_convert.tasks.retrieval",
}


def open_task(name: str, config: dict[str, Any], **options: Any) -> "Task":
    """The task `name` for a checkpoint whose config.json is `config` (its id2label names the logits).

    `options` go to the task: `candidates` of retrieval. Raises InputError for an unknown task and for labels that
    are not the task's.
    """
    if name == EMBEDDINGS:
        raise InputError(f"the model gives embeddings and answers nothing; there are the tasks {', '.join(TASKS)}.")
    if name not in TASKS:
        raise InputError(f"there is no task '{name}'; there are {', '.join(TASKS)}.{nearest(name, TASKS)}")
    task: Task = importlib.import_module(TASKS[name]).Task(config, **options)
    return task
