"""What written answers earn, by hand."""

import pytest

from pumer_convert.data.sample import Sample
from pumer_convert.tasks import open_generation_task


def samples(*targets: object) -> list[Sample]:
    return [Sample(str(i), (), "?", target, "here") for i, target in enumerate(targets)]


def test_vqa_by_humans_by_one_answer_and_by_scores() -> None:
    humans = ("two",) * 2 + ("three",) * 8
    given = samples(humans, humans, ("The cat.",), ("cat",), {"a dog": 0.6, "cat": 0.3}, ())
    found = open_generation_task("vqa").judge(["2", "Three!", "cat", "cats", "dog", "x"], given)
    assert found.scores.tolist() == pytest.approx([0.6, 1, 1, 0, 0.6, 0])
    assert found.metrics == {"vqa_accuracy": pytest.approx(3.2 / 6)}
    assert found.answers[1] == "Three!"


def test_pope_as_its_own_evaluation_counts() -> None:
    right = samples("yes", "yes", "yes", "no", "no")
    said = ["Yes", "No, there is none.", "There is one. Not two.", "Yes, there is", "there is not"]
    found = open_generation_task("pope").judge(said, right)
    assert found.answers == ["yes", "no", "yes", "yes", "no"]
    assert found.scores.tolist() == [1, 0, 1, 0, 1]
    expected = {"accuracy": 0.6, "precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "yes": 0.6}
    assert found.metrics == pytest.approx(expected)
    assert next(iter(found.metrics)) == "accuracy"


def test_pope_where_nothing_is_said_to_be_there() -> None:
    found = open_generation_task("pope").judge(["no", "no"], samples("no", "no"))
    assert found.metrics == {"accuracy": 1, "precision": 0, "recall": 0, "f1": 0, "yes": 0}
