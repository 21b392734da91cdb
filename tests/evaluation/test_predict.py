"""Predictions: in order, timed, the metric of every task, and a model that is left as it was."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.data.sample import Sample
from pumer_convert.demo import CHECKPOINT
from pumer_convert.errors import InputError
from pumer_convert.evaluation.predict import predict, predict_each
from pumer_convert.tasks import open_task

LABELS = {
    "vqa": ("yes", "no", "red"),
    "nlvr2": ("False", "True"),
    "ve": ("contradiction", "neutral", "entailment"),
    "retrieval": (),
}
TARGETS: dict[str, list[Any]] = {
    "vqa": [("yes",) * 10, ("no",) * 10, ("red",) * 10, ("yes",) * 3 + ("no",) * 7, ("blue",)],
    "nlvr2": [False, True, True, False, True],
    "ve": ["contradiction", "neutral", "entailment", "neutral", "neutral"],
    "retrieval": ["a", "b", "a", "c", "b"],
}


@dataclass(frozen=True)
class Grey:
    """A picture of one grey, named."""

    name: str
    level: int

    def open(self) -> Image.Image:
        return Image.new("RGB", (20, 20), (self.level,) * 3)


class Chooses(torch.nn.Module):
    """Answers with the number that the grey of the first picture stands for: 255 is label 0, 205 label 1, ..."""

    def __init__(self, labels: int, off: int = 0) -> None:
        super().__init__()
        self.labels, self.off, self.calls = labels, off, 0
        self.frozen = torch.nn.Dropout().eval()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, pixel_values: torch.Tensor) -> Any:
        assert not self.training
        assert torch.is_inference_mode_enabled()
        self.calls += 1
        place = ((1 - pixel_values.flatten(1)[:, 0]) * 2.55).round().long() + self.off
        if self.labels == 1:  # a caption is as long as its picture is dark
            return SimpleNamespace(logits=-(attention_mask.sum(1) - 2 - place).abs().float()[:, None])
        return SimpleNamespace(logits=torch.nn.functional.one_hot(place % self.labels, self.labels).float())


def config(task: str) -> dict[str, Any]:
    return {"id2label": {str(i): label for i, label in enumerate(LABELS[task])}}


def made(task: str) -> list[Sample]:
    found = []
    for i, target in enumerate(TARGETS[task]):
        place = "abc".index(target) if task == "retrieval" else i
        pictures = tuple(Grey(f"{place}.{side}", 255 - 50 * place) for side in range(2 if task == "nlvr2" else 1))
        found.append(Sample(f"s{i}", pictures, " ".join(["what"] * place), target, f"made:{i}"))
    return found


@pytest.fixture(scope="module")
def preprocessor() -> Preprocessor:
    return Preprocessor.of(CHECKPOINT, image_size=(96, 96))


@pytest.mark.parametrize(
    ("task", "answers", "scores", "metrics"),
    [
        ("vqa", ["yes", "no", "red", "yes", "no"], [1, 1, 1, 0.9, 0], {"vqa_accuracy": 0.78}),
        ("nlvr2", ["False", "True", "False", "True", "False"], [1, 1, 0, 0, 0], {"accuracy": 0.4}),
        ("ve", [*LABELS["ve"], *LABELS["ve"][:2]], [1, 1, 1, 0, 1], {"accuracy": 0.8}),
    ],
)
def test_answers_scores_and_metrics(
    task: str, answers: list[str], scores: list[float], metrics: dict[str, float], preprocessor: Preprocessor
) -> None:
    model = Chooses(len(LABELS[task])).train()
    model.frozen.eval()
    seen: list[tuple[int, int]] = []
    found = predict(
        model,
        made(task),
        open_task(task, config(task)),
        preprocessor,
        batch_size=2,
        progress=lambda *at: seen.append(at),
    )
    assert found.answers == answers
    assert found.scores.tolist() == pytest.approx(scores)
    assert not found.scores.is_inference()
    assert found.metrics == {name: pytest.approx(value) for name, value in metrics.items()}
    assert found.ids == ["s0", "s1", "s2", "s3", "s4"]
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert (found.passes, model.calls) == (5, 4), "three batches, and one to warm up"
    assert found.rate == pytest.approx(5 / found.seconds)
    assert (model.training, model.frozen.training) == (True, False), "left in the mode it was in"


def test_retrieval_scores_every_pair(preprocessor: Preprocessor) -> None:
    seen: list[tuple[int, int]] = []
    found = predict(
        Chooses(1),
        made("retrieval"),
        open_task("retrieval", {}),
        preprocessor,
        batch_size=2,
        progress=lambda *at: seen.append(at),
    )
    assert found.answers == TARGETS["retrieval"]
    assert found.scores.tolist() == [1, 1, 1, 1, 1]
    assert (found.passes, seen) == (15, [(15, 15)])
    assert found.metrics["recall"] == 1
    assert found.metrics["image_r@1"] == 1


def test_retrieval_of_a_model_that_knows_nothing(preprocessor: Preprocessor) -> None:
    found = predict(Chooses(1, off=-99), made("retrieval")[:2], open_task("retrieval", {}), preprocessor)
    assert found.scores.mean() == pytest.approx(found.metrics["image_r@1"])


def test_several_models_take_turns_on_the_same_batches(preprocessor: Preprocessor) -> None:
    models = [Chooses(3), Chooses(3, off=1)]
    first, second = predict_each(models, made("vqa"), open_task("vqa", config("vqa")), preprocessor, batch_size=3)
    assert first.answers == ["yes", "no", "red", "yes", "no"]
    assert second.answers == ["no", "red", "yes", "no", "red"]
    assert first.ids == second.ids
    assert first.passes == second.passes == 5


def test_samples_of_another_task_are_refused_and_the_mode_restored(preprocessor: Preprocessor) -> None:
    model = Chooses(3).train()
    with pytest.raises(InputError, match="picture"):
        predict(model, made("nlvr2"), open_task("vqa", config("vqa")), preprocessor)
    assert model.training
