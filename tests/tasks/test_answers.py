"""The official VQA metric on cases worked out by hand."""

import itertools

import pytest

from pumer_convert.tasks.answers import CONTRACTIONS, accuracy, normalise, soft_score


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Yes", "yes"),
        ("  the   Red\tcar\n", "red car"),
        ("a", ""),
        ("an apple on THE table", "apple on table"),
        ("another theme", "another theme"),
        ("two", "2"),
        ("none", "0"),
        ("Ten dogs", "10 dogs"),
        ("eleven", "eleven"),
        ("one-two", "1 2"),
        ("someone", "someone"),
        ("dont know", "don't know"),
        ("isn't", "isn't"),
        ("couldntve", "couldntve"),
        ("couldnt've", "couldn't've"),
        ("theyre here", "they're here"),
        ("5 oclock", "5 o'clock"),
        ("Its well", "its well"),
        ("girl's", "girl's"),
        ("10:30", "10:30"),
        ("10:30 P.M.", "10:30 pm"),
        ("1.5", "1.5"),
        ("5.", "5"),
        ("St. Mary", "st mary"),
        ("100,978", "100978"),
        ("red, white and blue", "red white and blue"),
        ("red,white", "red white"),
        ("t-shirt", "t shirt"),
        ("black/white", "black white"),
        ("yes!", "yes"),
        ("(left) side?", "left side"),
        ('"stop"', "stop"),
        ("50%", "50%"),
        ("m&m", "m&m"),
        # The program, not the description: a mark that touches a space somewhere joins everywhere in that answer,
        ("x-ray -table", "xray table"),
        # and a comma between digits makes every mark join.
        ("1,000-2", "10002"),
    ],
)
def test_normalise(answer: str, expected: str) -> None:
    assert normalise(answer) == expected
    assert normalise(expected) == expected


def test_contractions_are_no_other_words() -> None:
    assert not {"its", "were", "well", "hell", "shell", "ill", "id", "wed", "shed", "lets"} & CONTRACTIONS.keys()
    assert all("'" in full and full.replace("'", "") == bare.replace("'", "") for bare, full in CONTRACTIONS.items())


def published(answer: str, humans: list[str]) -> float:
    """The definition word for word: min(matches / 3, 1), averaged over all sets of nine humans."""
    sets = list(itertools.combinations(humans, len(humans) - 1))
    return sum(min(sum(h == answer for h in nine) / 3, 1) for nine in sets) / len(sets)


@pytest.mark.parametrize(("count", "expected"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_accuracy_is_the_published_definition(count: int, expected: float) -> None:
    humans = ["cat"] * count + [f"other {i}" for i in range(10 - count)]
    assert accuracy("cat", humans) == pytest.approx(published("cat", humans))
    assert accuracy("cat", humans) == pytest.approx(expected)
    assert soft_score(count, 10) == pytest.approx(expected)


def test_accuracy_over_answers_that_are_alike_once_normalised() -> None:
    given = ["2", "two", "Two.", "the two", "3", "three", "none", "a dog", "dog!", "dont know"]
    humans = [normalise(answer) for answer in given]
    expected = {"2": 1.0, "3": 0.6, "0": 0.3, "dog": 0.6, "don't know": 0.3, "cat": 0.0}
    for answer, value in expected.items():
        assert accuracy(answer, humans) == pytest.approx(value)
        assert accuracy(answer, humans) == pytest.approx(published(answer, humans))


def test_fewer_humans_stand_for_ten() -> None:
    assert accuracy("cat", ["cat"]) == 1
    assert accuracy("dog", ["cat"]) == 0
    assert accuracy("cat", []) == 0
    five = ["cat", "dog", "dog", "cow", "hen"]
    assert accuracy("cat", five) == pytest.approx(published("cat", five * 2))
    assert accuracy("dog", five) == pytest.approx(published("dog", five * 2))
    assert soft_score(1, 1) == 1
    assert soft_score(1, 5) == pytest.approx(0.6)
