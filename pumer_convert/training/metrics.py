"""What a training tells of itself: to whoever watches, to metrics.jsonl, to TensorBoard, and as a curve."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pumer_convert.training.work import writing

LINES = {
    "loss": "loss",
    "task_loss": "task",
    "cosine_loss": "1 - cosine",
    "kd_loss": "KL to the teacher",
    "contrastive_loss": "contrastive",
    "hidden_loss": "hidden states",
}
"""What is drawn of the losses, and the words for it."""


@dataclass(frozen=True)
class Status:
    """Where a training is.

    loss, accuracy           means since the last record, None before the first; `metric` names the second.
    examples_per_second      rows, over all processes.
    seconds_left             at that speed.
    """

    step: int
    steps: int
    loss: float | None
    accuracy: float | None
    examples_per_second: float
    seconds_left: float
    metric: str = "accuracy"


class Metrics:
    """One record after the other: {"step": 10, "loss": ...} of training, {"step": 50, "validation": {...}}.

    On resuming, records behind `step` go: they are made again. `board` is the folder for TensorBoard, where that is
    installed.
    """

    def __init__(self, file: Path, step: int) -> None:
        self.file = file
        self.records: list[dict[str, Any]] = []
        if file.exists():
            self.records = [record for record in map(_record, file.read_text("utf-8").splitlines()) if record]
            self.records = [record for record in self.records if record["step"] <= step]
        with writing(file):
            partial = file.with_name(f"{file.name}.partial")
            partial.write_text("".join(json.dumps(record) + "\n" for record in self.records))
            partial.replace(file)
        self._board = _board(file.parent / "tensorboard", step)

    def add(self, record: Mapping[str, Any]) -> None:
        """Keep a record."""
        self.records.append(dict(record))
        with writing(self.file), self.file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(record) + "\n")
        if self._board is not None:
            for name, value in _scalars(record):
                self._board.add_scalar(name, value, record["step"])

    def close(self) -> None:
        """Nothing more comes."""
        if self._board is not None:
            self._board.close()

    @property
    def validations(self) -> list[dict[str, Any]]:
        """The records of validations."""
        return [record for record in self.records if "validation" in record]


def _record(line: str) -> dict[str, Any] | None:
    """A line that is whole; a killed process may have left half of one."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _scalars(record: Mapping[str, Any]) -> list[tuple[str, float]]:
    if "validation" in record:
        return [(f"validation/{name}", value) for name, value in record["validation"].items()]
    return [(f"train/{name}", v) for name, v in record.items() if isinstance(v, float)]


def _board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)


def headline(validation: Mapping[str, float]) -> str:
    """The name of the metric that the weights are chosen by: the first (in retrieval it is not the task's)."""
    return next(iter(validation))


def draw_curve(metrics: Metrics, file: Path, measured: str) -> None:
    """A picture of the losses and of what is `measured` in training over the steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    train = [record for record in metrics.records if "loss" in record]
    steps = [record["step"] for record in train]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for name, label in LINES.items():
        values = [record.get(name) for record in train]
        if any(values):
            left.plot(steps, values, label=label)
    right.plot(steps, [record[measured] for record in train], label="training")
    found = metrics.validations
    if found:
        metric = headline(found[0]["validation"])
        scores = [record["validation"][metric] for record in found]
        right.plot([record["step"] for record in found], scores, "o-", label=f"validation: {metric}")
    for axes, title in ((left, "loss"), (right, measured)):
        axes.set(xlabel="step", title=title)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(file, dpi=110)
