"""Losses, distillation terms and metrics of all four tasks on values worked out by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pumer_convert.data.sample import Sample
from pumer_convert.errors import InputError
from pumer_convert.tasks import TASKS, open_task
from pumer_convert.tasks.base import Example, Task
from pumer_convert.tasks.retrieval import Gallery, recalls, score_matrix
from pumer_convert.tasks.vqa import build_vocabulary


class Plain:
    """A picture of one colour, named."""

    def __init__(self, name: str, colour: str = "red") -> None:
        self.name, self.colour = name, colour

    def open(self) -> Image.Image:
        return Image.new("RGB", (40, 30), self.colour)


def labels(*names: str) -> dict[str, Any]:
    return {"id2label": {str(i): name for i, name in enumerate(names)}}


CONFIGS: dict[str, dict[str, Any]] = {
    "vqa": labels("yes", "no", "2", "red"),
    "nlvr2": labels("False", "True"),
    "ve": labels("contradiction", "neutral", "entailment"),
    "retrieval": {},
}
TARGETS: dict[str, list[Any]] = {
    "vqa": [("yes",) * 10, ("two", "2", "red") + ("no",) * 7, ("no",)],
    "nlvr2": [True, False, True],
    "ve": ["neutral", "entailment", "contradiction"],
    "retrieval": ["a", "b", "a"],
}


def samples(name: str) -> list[Sample]:
    pictures = 2 if name == "nlvr2" else 1
    return [
        Sample(
            str(i),
            tuple(Plain(f"{target if name == 'retrieval' else i}.{p}") for p in range(pictures)),
            f"t{i}",
            target,
            f"f:{i}",
        )
        for i, target in enumerate(TARGETS[name])
    ]


def opened(name: str) -> tuple[Task, dict[str, torch.Tensor]]:
    task = open_task(name, CONFIGS[name], **({"candidates": 3} if name == "retrieval" else {}))
    return task, task.target(task.rows(samples(name), train=False)[:])


@pytest.fixture(params=TASKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def logits_of(task: Task, rows: int = 3, seed: int = 0) -> torch.Tensor:
    width = 1 if task.name == "retrieval" else len(CONFIGS[task.name]["id2label"])
    return torch.randn(rows * task.lines, width, generator=torch.Generator().manual_seed(seed))


def test_every_task_has_the_whole_interface(name: str) -> None:
    task, target = opened(name)
    assert task.name == name
    logits = logits_of(task).requires_grad_()
    loss = task.loss(logits, target)
    term = task.distillation(logits, logits_of(task, seed=1), target, 2.0)
    assert loss.shape == term.shape == ()
    (loss + term).backward()
    assert logits.grad is not None
    assert bool(logits.grad.abs().sum() > 0)
    scores = task.scores(logits, target)
    assert scores.shape == (3,)
    assert bool(((scores >= 0) & (scores <= 1)).all())
    assert len(task.answers(logits)) == 3
    assert task.summary(scores) == {task.metric: pytest.approx(float(scores.mean()))}
    assert all(len(value) == 3 for value in target.values())


def test_distillation_is_zero_for_the_teacher_and_positive_otherwise(name: str) -> None:
    task, target = opened(name)
    teacher = logits_of(task)
    assert float(task.distillation(teacher, teacher, target, 1.0)) == pytest.approx(0, abs=1e-6)
    assert float(task.distillation(logits_of(task, seed=1), teacher, target, 1.0)) > 0.01


def test_distillation_in_half_precision_is_computed_in_float32(name: str) -> None:
    task, target = opened(name)
    term = task.distillation(logits_of(task, seed=1).bfloat16(), logits_of(task).bfloat16(), target, 1.0)
    assert term.dtype == torch.float32


def test_distillation_by_hand() -> None:
    task, target = opened("nlvr2")
    teacher = torch.tensor([[0.0, math.log(3)], [0.0, 0.0], [0.0, 0.0]])  # softmax of the first: 1/4, 3/4
    student = torch.zeros(3, 2)
    first = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert float(task.distillation(student, teacher, target, 1.0)) == pytest.approx(first / 3, rel=1e-5)
    # At temperature 2, the teacher with twice the logits is the same distribution; the term is scaled by 4.
    assert float(task.distillation(student, 2 * teacher, target, 2.0)) == pytest.approx(4 * first / 3, rel=1e-5)


def test_distillation_of_retrieval_is_over_the_candidates() -> None:
    task, target = opened("retrieval")
    teacher = torch.tensor([[math.log(2), 0, 0], [0, 0, 0], [0, 0, 0]]).reshape(9, 1)  # 1/2, 1/4, 1/4
    student = torch.zeros(9, 1)
    expected = 0.5 * math.log(0.5 * 3) + 2 * 0.25 * math.log(0.25 * 3)
    assert float(task.distillation(student, teacher, target, 1.0)) == pytest.approx(expected / 3, rel=1e-5)
    per_logit = Task.distillation(task, student, teacher, target, 1.0)
    assert float(per_logit) == 0, "the published term, over one logit, is always zero"


def test_vqa_by_hand() -> None:
    task, target = opened("vqa")
    # yes x10 | two, 2, red, no x7: "two" and "2" are one answer | one human alone
    soft = [[1, 0, 0, 0], [0, 1, 0.6, 0.3], [0, 1, 0, 0]]
    torch.testing.assert_close(target["soft"], torch.tensor(soft))
    torch.testing.assert_close(target["score"], torch.tensor(soft))
    logits = torch.tensor([[5.0, 0, 0, 0], [0, 0, 5, 0], [0, 0, 0, 5]])
    assert task.answers(logits) == ["yes", "2", "red"]
    torch.testing.assert_close(task.scores(logits, target), torch.tensor([1, 0.6, 0]))
    assert task.summary(task.scores(logits, target)) == {"vqa_accuracy": pytest.approx(1.6 / 3)}
    # At logits of zero every element costs log 2: the sum over 4 answers is the loss of an example.
    assert float(task.loss(torch.zeros(3, 4), target)) == pytest.approx(4 * math.log(2))


def test_vqa_takes_ready_scores_and_names_that_are_normalised_alike() -> None:
    task = open_task("vqa", labels("two", "2", "The dog"))
    row = Example(Sample("1", (Plain("a"),), "?", {"two": 0.6, "dog": 1.0, "cat": 1.0}, "f:1"), 0, ())
    torch.testing.assert_close(task.target([row])["score"], torch.tensor([[0.6, 0.6, 1.0]]))


def test_vqa_without_names_or_with_others_is_refused() -> None:
    with pytest.raises(InputError, match="does not name its answers"):
        open_task("vqa", labels("LABEL_0", "LABEL_1")).rows(samples("vqa"))
    with pytest.raises(InputError, match="no answer of these 3 samples is among the checkpoint's 2 answers"):
        open_task("vqa", labels("cat", "dog")).rows(samples("vqa"))
    with pytest.raises(InputError, match="id2label"):
        open_task("vqa", {})


def test_vocabulary_is_built_from_the_answer_that_most_gave() -> None:
    picture = (Plain("a"),)
    given = [("Yes",) * 6 + ("no",) * 4] * 3 + [("no",)] * 2 + [("two", "red", "2")] * 2 + [()]
    found = [Sample(str(i), picture, "?", target, "f:1") for i, target in enumerate(given)]
    assert build_vocabulary(found, 2) == {"0": "2", "1": "no", "2": "yes"}
    assert build_vocabulary(found, 3) == {"0": "yes"}
    with pytest.raises(InputError, match="lower the minimum"):
        build_vocabulary(found)


@pytest.mark.parametrize("name", ["nlvr2", "ve"])
def test_classes_by_hand(name: str) -> None:
    task, target = opened(name)
    wide = len(CONFIGS[name]["id2label"])
    assert float(task.loss(torch.zeros(3, wide), target)) == pytest.approx(math.log(wide))
    right = torch.nn.functional.one_hot(target["label"], wide).float()
    assert task.scores(right, target).tolist() == [1, 1, 1]
    assert task.scores(-right, target).tolist() == [0, 0, 0]
    assert task.answers(right) == [str(t) for t in TARGETS[name]]


def test_classes_in_another_order_and_wrong_ones() -> None:
    task = open_task("ve", labels("entailment", "neutral", "contradiction"))
    assert task.target(task.rows(samples("ve"))[:])["label"].tolist() == [1, 0, 2]
    assert open_task("nlvr2", labels("LABEL_0", "LABEL_1")).answers(torch.eye(2)) == ["False", "True"]
    with pytest.raises(InputError, match=r"tells contradiction, neutral, entailment apart.*says yes, no"):
        open_task("ve", labels("yes", "no", "2"))


def test_wrong_task_and_wrong_pictures() -> None:
    with pytest.raises(InputError, match="Did you mean 'nlvr2'"):
        open_task("nlvr", {})
    with pytest.raises(InputError, match=r"f:0: 1 picture\(s\), but nlvr2 takes 2"):
        open_task("nlvr2", CONFIGS["nlvr2"]).rows(samples("ve"))
    with pytest.raises(InputError, match="no sample"):
        open_task("ve", CONFIGS["ve"]).rows([])


def captions(images: int, each: int = 2) -> list[Sample]:
    return [
        Sample(f"{i}.{c}", (Plain(f"p{i}"),), f"{i} {c}", f"image {i}", "f:1")
        for i in range(images)
        for c in range(each)
    ]


def test_retrieval_by_hand() -> None:
    task, target = opened("retrieval")
    logits = torch.tensor([[2.0, 1, 0], [0, 1, 0], [1, 1, 1]]).reshape(9, 1)
    assert task.scores(logits, target).tolist() == [1, 0, 0], "a tie is no success"
    assert task.answers(logits) == ["0", "1", "0"]
    assert float(task.loss(torch.zeros(9, 1), target)) == pytest.approx(math.log(3))


def test_a_query_is_the_right_caption_and_those_of_other_images() -> None:
    task = open_task("retrieval", {}, candidates=4)
    data = captions(6)
    rows = task.rows(data, train=True, seed=1, epoch=2)
    assert len(rows) == 12
    for i, row in enumerate(rows):
        texts = [line.text for line in row.lines]
        assert texts[0] == data[i].text
        assert len({text.split()[0] for text in texts}) == 4, "candidates are of different images"
        assert {line.pictures for line in row.lines} == {data[i].pictures}
    drawn = [[line.text for line in row.lines] for row in rows]

    def again(**how: Any) -> list[list[str]]:
        return [[line.text for line in row.lines] for row in task.rows(data, **how)]

    assert again(train=True, seed=1, epoch=2) == drawn
    assert again(train=True, seed=1, epoch=3) != drawn
    assert again(train=False, seed=1, epoch=2) == again(train=False, seed=1, epoch=3)


def test_a_query_with_few_images_or_one() -> None:
    task = open_task("retrieval", {}, candidates=4)
    assert all(len(row.lines) == 4 for row in task.rows(captions(2)))
    with pytest.raises(InputError, match="nothing to tell apart"):
        task.rows(captions(1))
    with pytest.raises(InputError, match="2 candidates or more"):
        open_task("retrieval", {}, candidates=1)


def test_recalls_by_hand() -> None:
    # Two captions of image 0, one of image 1.
    truth = [0, 0, 1]
    scores = torch.tensor([[3.0, 1], [0, 2], [0, 1]])
    found = recalls(scores, truth, (1, 2))
    assert found["image_r@1"] == pytest.approx(2 / 3)  # captions 0 and 2
    assert found["image_r@2"] == 1
    # Image 0's best own caption has 3, first; image 1's has 1, behind caption 1 with 2 and tied with caption 0.
    assert found["text_r@1"] == pytest.approx(1 / 2)
    assert found["text_r@2"] == pytest.approx(1 / 2)
    assert found["recall"] == pytest.approx((2 / 3 + 1 + 1 / 2 + 1 / 2) / 4)
    assert recalls(torch.zeros(30, 15), [i // 2 for i in range(30)])["recall"] == 0, "constant scores know nothing"


class Counting:
    """A stand-in for a preprocessor: pixels say which colour, text how long."""

    def __init__(self) -> None:
        self.opened = 0

    def pixels(self, image: Image.Image, *, name: str) -> Any:
        self.opened += 1
        return torch.full((3, 2, 2), float(image.getpixel((0, 0))[0])).numpy()

    def arrange(self, examples: Any) -> Any:
        return {"pixel_values": np.stack([pixels for (pixels,) in examples])}

    def text(self, texts: Any) -> Any:
        ids = torch.tensor([[int(text)] for text in texts])
        return ids.numpy(), torch.ones_like(ids).numpy()


def test_every_caption_meets_every_image_once() -> None:
    data = [Sample(str(i), (Plain(f"p{i % 3}", f"#{i % 3:02x}0000"),), str(i), f"i{i % 3}", "f:1") for i in range(7)]
    gallery = Gallery.of(data)
    assert gallery.truth == (0, 1, 2, 0, 1, 2, 0)
    preprocessor = Counting()
    seen: list[tuple[int, int]] = []

    def score(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        assert len(inputs["input_ids"]) <= 2
        return inputs["input_ids"].float() * 10 + inputs["pixel_values"][:, 0, 0, :1]

    matrix = score_matrix(gallery, preprocessor, score, block=2, progress=lambda *at: seen.append(at))
    assert matrix.tolist() == [[10 * c + i for i in range(3)] for c in range(7)]
    assert preprocessor.opened == 3
    assert seen == [(7, 21), (14, 21), (21, 21)]
