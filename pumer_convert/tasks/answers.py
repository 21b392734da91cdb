"""The official VQA metric: when two answers are the same, and what an answer earns (visualqa.org/evaluation).

What the evaluation does to every answer, human and machine alike: lower case, punctuation, number words, articles,
contractions. Where the description and the official program differ, this follows the program, so that numbers agree
with those of everyone else; the places say so.
"""

import re
from collections.abc import Iterator, Sequence

MARKS = ';/[]"{}()=+\\_-><@`,?!'
"""The marks that are taken out. Apostrophes stay (possessives), and so do colons (times) and any others."""
ARTICLES = frozenset(("a", "an", "the"))


def _words(text: str) -> list[str]:
    return text.split()


NUMBERS = {word: str(i) for i, word in enumerate(_words("zero one two three four five six seven eight nine ten"))}
NUMBERS["none"] = "0"

_BETWEEN_DIGITS = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")

_NOT = _words("ai are ca could did does do had has have is might must need ought sha should was were wo would")
_NOT_HAVE = _words("could had might should would")
_ENDINGS = {
    "ve": _words("could might must should would not they we what where who you"),
    "d": _words("he how it someone something there they where who you"),
    "ll": _words("how it somebody someone something they what who why you"),
    "re": _words("there they what why you"),
    "s": _words("he how somebody someone that there what when where who why"),
}
_WOULD_HAVE = _words("he it she somebody someone something there they we who you")
_OTHERS = {"maam": "ma'am", "oclock": "o'clock", "twas": "'twas", "yall": "y'all", "ow's'at": "'ow's'at"}


def _contractions() -> Iterator[tuple[str, str]]:
    """Spellings without one or more of their apostrophes, and the full ones.

    Only such as are no other word: "its", "were", "well", "shell", "ill", "id" and "wed" stay what they are.
    """
    for stem in _NOT:
        yield f"{stem}nt", f"{stem}n't"
    for stem in _NOT_HAVE:
        yield f"{stem}n'tve", f"{stem}n't've"
        yield f"{stem}nt've", f"{stem}n't've"
    for ending, stems in _ENDINGS.items():
        for stem in stems:
            yield f"{stem}{ending}", f"{stem}'{ending}"
    for stem in _WOULD_HAVE:
        yield f"{stem}'dve", f"{stem}'d've"
        yield f"{stem}d've", f"{stem}'d've"
    for bare, full in (("yall'll", "y'all'll"), ("y'allll", "y'all'll"), *_OTHERS.items()):
        yield bare, full
    for bare in ("yall'd've", "y'alld've", "y'all'dve"):
        yield bare, "y'all'd've"
    for bare in ("'ows'at", "'ow'sat"):
        yield bare, "'ow's'at"


CONTRACTIONS = dict(_contractions())


def normalise(answer: str) -> str:
    """The answer as the evaluation compares it."""
    words = _without_punctuation(" ".join(answer.split())).lower().split()
    words = [NUMBERS.get(word, word) for word in words]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def _without_punctuation(text: str) -> str:
    """Marks become a space, or nothing when the mark touches a space somewhere or a comma stands between digits.

    The description has a comma between digits join them (100,978 -> 100978); the program then joins at every mark of
    that answer. Periods go unless a digit follows: 1.5 keeps its own.
    """
    joined = _BETWEEN_DIGITS.search(text) is not None
    changes: dict[str, str | int | None] = {
        mark: "" if joined or f" {mark}" in text or f"{mark} " in text else " " for mark in MARKS
    }
    return _PERIOD.sub("", text.translate(str.maketrans(changes)))


def accuracy(answer: str, humans: Sequence[str]) -> float:
    """What a normalised answer earns beside the normalised answers of the humans, from 0 to 1.

    Each human is left out in turn, and min(matches among the others / 3, 1) averaged over these. Of ten humans, k of
    whom said it: k of the averages have k - 1 matches, the rest have k. Data with fewer than ten answers is judged as
    though each stood for as many of ten (with five this is OK-VQA's rule), so a single answer is right or wrong.
    """
    if not humans:
        return 0.0
    k = 10 * sum(human == answer for human in humans) / len(humans)
    return (k * min(max(k - 1, 0) / 3, 1) + (10 - k) * min(k / 3, 1)) / 10


def soft_score(count: int, humans: int) -> float:
    """What training aims at for an answer that `count` of the humans gave: 0.3 each of ten, 1 from four on.

    As in ViLT and METER; fewer than ten humans count as in `accuracy`.
    """
    k = 10 * count / humans
    return 1.0 if k >= 4 else round(0.3 * k, 6)
