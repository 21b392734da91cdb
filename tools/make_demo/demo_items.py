"""Rows to finetune the demo on: pairs with a statement, statements of one picture, captions right and wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from demo_batches import Item, Look, look

from pumer_convert.demo.scene import VALUES, Scene, make_scene
from pumer_convert.demo.statements import (
    ENTAILMENT,
    ONE_KINDS,
    PAIR_KINDS,
    TRUTH,
    about_one,
    about_pair,
    caption,
)
from pumer_convert.demo.words import name

CAPTIONS = 4
"""Captions for a picture: the right one, one with a word changed, and others'."""


@dataclass(frozen=True)
class Seen:
    """A scene and how it looks."""

    scene: Scene
    look: Look


def see_many(random: Random, count: int) -> list[Seen]:
    """New training scenes."""
    scenes = [make_scene(random, "train") for _ in range(count)]
    return [Seen(scene, look(scene)) for scene in scenes]


def ve(random: Random, pool: list[Seen]) -> list[Item]:
    """One statement of one picture."""
    while True:
        one, kind = random.choice(pool), random.choice(list(ONE_KINDS))
        said = about_one(random, one.scene, kind)
        if said is not None:
            return [Item(one.look, said.text, ENTAILMENT.index(said.answer), kind)]


def nlvr2(random: Random, pool: list[Seen]) -> list[Item]:
    """Two pictures with the same statement."""
    drawn: list[Seen] = []

    def scene() -> Scene:
        drawn.append(random.choice(pool))
        return drawn[-1].scene

    while True:
        kind = random.choice(list(PAIR_KINDS))
        found = about_pair(random, scene, kind)
        if found is not None:
            said = found[2]
            return [Item(one.look, said.text, TRUTH.index(said.answer), kind) for one in drawn[-2:]]


def retrieval(random: Random, pool: list[Seen]) -> list[Item]:
    """One picture with its caption, then with wrong ones; the label is always the first."""
    one = random.choice(pool)
    right = caption(random, one.scene)
    texts = [right, changed(random, one.scene, right)]
    texts += [caption(random, random.choice(pool).scene) for _ in range(CAPTIONS - len(texts))]
    return [Item(one.look, text, 0, "caption") for text in texts]


def changed(random: Random, scene: Scene, text: str) -> str:
    """A caption with one word exchanged, so that it names a thing that is not there."""
    thing = random.choice([t for t in scene.things if full_name(t.__dict__) in text])
    key = random.choice(list(VALUES))
    value = random.choice([value for value in VALUES[key] if value != getattr(thing, key)])
    attributes = {k: getattr(thing, k) for k in VALUES} | {key: value}
    if scene.matching(**attributes):
        return changed(random, scene, text)
    return text.replace(full_name(thing.__dict__), name(attributes), 1)


def full_name(attributes: dict[str, str]) -> str:
    """All that is said of a thing in a caption, without the article."""
    return name({key: attributes[key] for key in VALUES})


MAKERS: dict[str, Callable[[Random, list[Seen]], list[Item]]] = {"ve": ve, "nlvr2": nlvr2, "retrieval": retrieval}
