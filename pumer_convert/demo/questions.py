"""Questions about one scene, with one answer each.

Answers are balanced within each form of a question, so that the text alone says little. Things are named by as few
attributes as single them out, never by the attribute that is asked about.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations, permutations
from random import Random

from pumer_convert.demo.scene import VALUES, Scene, Thing
from pumer_convert.demo.words import NUMBERS, RELATIONS, a, name

APART = 14
"""Pixels between two centres, along an axis, for one thing to be called left of or above another."""


@dataclass(frozen=True)
class Question:
    """A question; `about` are the places in the scene of the things that it names or counts, group by group."""

    kind: str
    text: str
    answer: str
    about: tuple[tuple[int, ...], ...]


def names(scene: Scene, thing: Thing, without: Iterable[str] = ()) -> list[dict[str, str]]:
    """The shortest descriptions that fit this thing alone, with one attribute or else two; none with `without`."""
    usable = [key for key in VALUES if key not in without]
    for length in (1, 2):
        sets = [{key: getattr(thing, key) for key in keys} for keys in combinations(usable, length)]
        found = [attributes for attributes in sets if len(scene.matching(**attributes)) == 1]
        if found:
            return found
    return []


def name_one(random: Random, scene: Scene, thing: Thing, without: Iterable[str] = ()) -> str | None:
    """One name of a thing, "large red object"; None when it has none."""
    found = names(scene, thing, without)
    return name(random.choice(found)) if found else None


def places(scene: Scene, *groups: list[Thing]) -> tuple[tuple[int, ...], ...]:
    """The places of things in the scene, group by group."""
    return tuple(tuple(i for i, thing in enumerate(scene.things) if thing in group) for group in groups)


def color(random: Random, scene: Scene) -> Question | None:
    """What color is the small star?"""
    return _attribute(random, scene, "color")


def shape(random: Random, scene: Scene) -> Question | None:
    """What shape is the striped red object?"""
    return _attribute(random, scene, "shape")


def _attribute(random: Random, scene: Scene, asked: str) -> Question | None:
    thing = random.choice(scene.things)
    called = name_one(random, scene, thing, without=[asked])
    if called is None:
        return None
    return Question(asked, f"what {asked} is the {called} ?", getattr(thing, asked), places(scene, [thing]))


def a_filter(random: Random) -> dict[str, str]:
    """A few attributes to count or look for: one, or two of which one is a color or a shape."""
    first = random.choice(("color", "color", "shape", "shape", "size", "texture"))
    keys = {first}
    if random.random() < 0.3:
        keys.add(random.choice([key for key in ("color", "shape") if key != first]))
    return {key: random.choice(VALUES[key]) for key in sorted(keys)}


def count(random: Random, scene: Scene) -> Question | None:
    """How many red objects are there? The number is drawn first, so that all are as common as scenes allow."""
    number = random.randint(0, len(scene.things))
    for _ in range(30):
        attributes = a_filter(random)
        found = scene.matching(**attributes)
        if len(found) == number:
            text = f"how many {name(attributes, many=True)} are there ?"
            return Question("count", text, NUMBERS[number], places(scene, found))
    return None


def existence(random: Random, scene: Scene) -> Question | None:
    """Is there a red star? Where there is none, there is often another red thing and another star."""
    keys = random.choice((("color", "shape"), ("color", "shape"), ("shape", "size"), ("color", "texture")))
    wanted, near = random.random() < 0.5, random.random() < 0.8
    for _ in range(20):
        one = random.choice(scene.things)
        other = one if wanted else random.choice(scene.things)
        attributes = {keys[0]: getattr(one, keys[0]), keys[1]: getattr(other, keys[1])}
        if not wanted and not near:
            attributes[keys[0]] = random.choice(VALUES[keys[0]])
        found = scene.matching(**attributes)
        if bool(found) == wanted:
            text = f"is there {a(name(attributes))} ?"
            return Question("existence", text, "yes" if found else "no", places(scene, found))
        near = False
    return None


def relation(random: Random, scene: Scene) -> Question | None:
    """Is the red star left of the large object? Asked where the two are well apart along that axis."""
    first, second = random.sample(scene.things, 2)
    words = random.choice(list(RELATIONS))
    ahead = along(words, first, second)
    one, other = name_one(random, scene, first), name_one(random, scene, second)
    if abs(ahead) < APART or one is None or other is None:
        return None
    answer = "yes" if ahead > 0 else "no"
    return Question("relation", f"is the {one} {words} the {other} ?", answer, places(scene, [first], [second]))


def along(words: str, first: Thing, second: Thing) -> int:
    """By how many pixels `first` is "left of", "above", ... `second`; negative when it is on the other side."""
    across, down = RELATIONS[words]
    return across * (first.x - second.x) + down * (first.y - second.y)


def comparison(random: Random, scene: Scene) -> Question | None:
    """Is the star larger than the circle? Are they the same color? Are there more red objects than blue objects?"""
    return random.choice((_same, _size, _more))(random, scene)


def _same(random: Random, scene: Scene) -> Question | None:
    asked, wanted = random.choice(("color", "shape")), random.random() < 0.5
    pairs = [p for p in permutations(scene.things, 2) if (getattr(p[0], asked) == getattr(p[1], asked)) == wanted]
    if not pairs:
        return None
    first, second = random.choice(pairs)
    one, other = (name_one(random, scene, thing, without=[asked]) for thing in (first, second))
    if one is None or other is None:
        return None
    text = f"is the {one} the same {asked} as the {other} ?"
    return Question("comparison", text, "yes" if wanted else "no", places(scene, [first], [second]))


def _size(random: Random, scene: Scene) -> Question | None:
    first, second = random.sample(scene.things, 2)
    one, other = (name_one(random, scene, thing, without=["size"]) for thing in (first, second))
    if first.size == second.size or one is None or other is None:
        return None
    word = random.choice(("larger", "smaller"))
    answer = "yes" if (first.size == "large") == (word == "larger") else "no"
    return Question("comparison", f"is the {one} {word} than the {other} ?", answer, places(scene, [first], [second]))


def _more(random: Random, scene: Scene) -> Question | None:
    key = random.choice(("color", "shape"))
    # Values that are there come up more often: two absent ones make a dull question.
    one, other = (random.choice((*VALUES[key], *(getattr(t, key) for t in scene.things))) for _ in range(2))
    groups = scene.matching(**{key: one}), scene.matching(**{key: other})
    more, fewer = len(groups[0]), len(groups[1])
    if one == other or more == fewer:
        return None
    word = random.choice(("more", "fewer"))
    text = f"are there {word} {name({key: one}, many=True)} than {name({key: other}, many=True)} ?"
    return Question("comparison", text, "yes" if (more > fewer) == (word == "more") else "no", places(scene, *groups))


KINDS: dict[str, Callable[[Random, Scene], Question | None]] = {
    "color": color,
    "shape": shape,
    "count": count,
    "existence": existence,
    "relation": relation,
    "comparison": comparison,
}


def ask(random: Random, scene: Scene, kind: str, tries: int = 20) -> Question | None:
    """A question of one kind; None when this scene has none to offer."""
    for _ in range(tries):
        question = KINDS[kind](random, scene)
        if question is not None:
            return question
    return None
