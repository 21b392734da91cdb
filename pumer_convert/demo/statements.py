"""Statements about scenes: true or false of a pair, entailed or contradicted by one, and captions.

As with the questions, what is said looks the same whatever the answer is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from pumer_convert.demo.questions import APART, a_filter, along, names
from pumer_convert.demo.scene import VALUES, Scene
from pumer_convert.demo.words import NUMBERS, RELATIONS, a, name

TRUTH = ("false", "true")
ENTAILMENT = ("contradiction", "neutral", "entailment")
"""The labels of image pairs and of visual entailment, in the order of their checkpoints."""


@dataclass(frozen=True)
class Statement:
    """A statement and what it is of its picture or pictures."""

    kind: str
    text: str
    answer: str


Truth = Callable[[Scene, Scene], bool | None]
"""Whether something is true of a pair, None where it should not be said of it."""


def about_pair(random: Random, scene: Callable[[], Scene], kind: str) -> tuple[Scene, Scene, Statement] | None:
    """Two of the scenes that `scene` makes, and a statement: first what is said, then scenes to make it so or not.

    So each statement is true as often as it is false. None when no scenes are found soon.
    """
    text, truth = PAIR_KINDS[kind](random)
    wanted = random.random() < 0.5
    for _ in range(100):
        left, right = scene(), scene()
        if truth(left, right) == wanted:
            return left, right, Statement(kind, text, TRUTH[wanted])
    return None


def _total(random: Random) -> tuple[str, Truth]:
    """There are three red objects. What is false of it misses by one or two."""
    attributes, said = a_filter(random), random.randint(0, 4)

    def truth(left: Scene, right: Scene) -> bool | None:
        off = abs(len(left.matching(**attributes)) + len(right.matching(**attributes)) - said)
        return off == 0 if off <= 2 else None

    verb = "is" if said == 1 else "are"
    return f"there {verb} {NUMBERS[said]} {name(attributes, many=said != 1)} .", truth


def _more(random: Random) -> tuple[str, Truth]:
    """The left image has more stars than the right image. Not said of equal numbers."""
    attributes, word = a_filter(random), random.choice(("more", "fewer"))

    def truth(left: Scene, right: Scene) -> bool | None:
        ahead = len(left.matching(**attributes)) - len(right.matching(**attributes))
        return (ahead > 0) == (word == "more") if ahead else None

    return f"the left image has {word} {name(attributes, many=True)} than the right image .", truth


def _images(random: Random) -> tuple[str, Truth]:
    """Both images contain a red object; only one; neither."""
    attributes = {key: random.choice(VALUES[key]) for key in random.choice((["color"], ["shape"]))}
    words, said = random.choice((("neither image has", 0), ("only one image has", 1), ("both images contain", 2)))

    def truth(left: Scene, right: Scene) -> bool | None:
        return said == sum(bool(scene.matching(**attributes)) for scene in (left, right))

    return f"{words} {a(name(attributes))} .", truth


PAIR_KINDS: dict[str, Callable[[Random], tuple[str, Truth]]] = {"total": _total, "more": _more, "images": _images}


def about_one(random: Random, scene: Scene, kind: str) -> Statement | None:
    """A statement that the picture entails, contradicts, or says nothing about: what it speaks of is not there."""
    wanted = random.choice(ENTAILMENT)
    for _ in range(30):
        text = ONE_KINDS[kind](random, scene, wanted)
        if text is not None:
            return Statement(kind, text, wanted)
    return None


def _attribute(random: Random, scene: Scene, wanted: str) -> str | None:
    """The large star is red. The striped object is a star."""
    asked, thing = random.choice(("color", "color", "shape", "shape", "size", "texture")), random.choice(scene.things)
    called = _called(random, scene, scene.things.index(thing), asked, absent=wanted == "neutral")
    value = getattr(thing, asked) if wanted == "entailment" else random.choice(VALUES[asked])
    if called is None or (wanted == "contradiction" and value == getattr(thing, asked)):
        return None
    return f"the {called} is {a(value) if asked == 'shape' else value} ."


def _relation(random: Random, scene: Scene, wanted: str) -> str | None:
    """The red star is left of the blue object. Neutral where one of the two is not there."""
    places, words = random.sample(range(len(scene.things)), 2), random.choice(list(RELATIONS))
    ahead = along(words, *(scene.things[i] for i in places))
    missing = random.choice(places) if wanted == "neutral" else None
    first, second = (_called(random, scene, i, "", absent=i == missing) for i in places)
    wrong = missing is None and (ahead > 0) != (wanted == "entailment")
    if first is None or second is None or wrong or abs(ahead) < APART:
        return None
    return f"the {first} is {words} the {second} ."


def _called(random: Random, scene: Scene, place: int, without: str, absent: bool) -> str | None:
    """A thing's name without an attribute; where `absent`, changed by one word so that it fits no thing."""
    found = names(scene, scene.things[place], without=[without])
    if not found:
        return None
    attributes = dict(random.choice(found))
    if absent:
        key = random.choice(list(attributes))
        attributes[key] = random.choice(VALUES[key])
        if scene.matching(**attributes):
            return None
    return name(attributes)


ONE_KINDS: dict[str, Callable[[Random, Scene, str], str | None]] = {"attribute": _attribute, "relation": _relation}


def caption(random: Random, scene: Scene) -> str:
    """Up to three of the things from left to right, with all that is to be said of each."""
    things = random.sample(scene.things, min(3, len(scene.things)))
    *most, last = (
        a(name({key: getattr(thing, key) for key in VALUES})) for thing in sorted(things, key=lambda thing: thing.x)
    )
    return f"{' , '.join(most)} and {last} ."
