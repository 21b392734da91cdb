"""Tasks. A task is a module with a class `Task` (see base.py) and one line here."""

import importlib
from typing import TYPE_CHECKING, Any

from pumer_convert.errors import InputError, nearest
from pumer_convert.weights import EMBEDDINGS as EMBEDDINGS

if TYPE_CHECKING:
    from pumer_convert.models.spec import ModelSpec
    from pumer_convert.tasks.base import GenerationTask, Task
    from pumer_convert.tasks.embeddings import EmbeddingTask

TASKS = {
    "vqa": "pumer_convert.tasks.vqa",
    "nlvr2": "pumer_convert.tasks.nlvr2",
    "ve": "pumer_convert.tasks.ve",
    "retrieval": "pumer_convert.tasks.retrieval",
}

EMBEDDING_TASKS = {
    "retrieval": "pumer_convert.tasks.embedded_retrieval",
    "zero_shot": "pumer_convert.tasks.zero_shot",
}
"""What measures models that give embeddings and answer nothing."""
GENERATION_TASKS = {
    "vqa": "pumer_convert.tasks.generated_vqa",
    "pope": "pumer_convert.tasks.pope",
}
"""What measures models that answer in words of their own."""


def open_embedding_task(name: str, spec: "ModelSpec", **options: Any) -> "EmbeddingTask":
    """The measurement `name` of a model of two towers. `options` go to it: `classes` of zero_shot. Raises InputError
    for an unknown one, and for a model without a tower of either kind."""
    if name not in EMBEDDING_TASKS:
        known = ", ".join(EMBEDDING_TASKS)
        raise InputError(f"embeddings are not measured by '{name}', but by {known}.{nearest(name, EMBEDDING_TASKS)}")
    task: EmbeddingTask = importlib.import_module(EMBEDDING_TASKS[name]).Task(spec, **options)
    return task


def open_generation_task(name: str) -> "GenerationTask":
    """The measurement `name` of a model that generates its answers. Raises InputError for an unknown one."""
    if name not in GENERATION_TASKS:
        known = ", ".join(GENERATION_TASKS)
        raise InputError(
            f"models that generate are not measured by '{name}', but by {known}.{nearest(name, GENERATION_TASKS)}"
        )
    task: GenerationTask = importlib.import_module(GENERATION_TASKS[name]).Task()
    return task


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
