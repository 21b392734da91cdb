"""Training batches of the demo: questions on scenes, with what each patch shows and whether the question means it."""

from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pumer_convert.demo.draw import draw_with_owners
from pumer_convert.demo.questions import ask
from pumer_convert.demo.scene import SIDE, VALUES, Scene, make_scene
from pumer_convert.demo.words import ANSWERS, VOCABULARY

PATCH = 8
ROWS = SIDE // PATCH
IDS = {word: i for i, word in enumerate(VOCABULARY)}
ANSWER_IDS = {answer: i for i, answer in enumerate(ANSWERS)}
LEAST = 4
"""Pixels of a thing in a patch, of 64, for the patch to be kept and named after it."""


STEP = 8
"""Lengths are rounded up to a multiple of this: matrix kernels are compiled once per length."""


@dataclass(frozen=True)
class Batch:
    """B questions, K patches of each one's picture.

    ids, mask [B, T]; patches [B, K, 192] in -1..1; which [B, K]: places of the patches in the picture; answer [B];
    facts [B, K, 4]: places in VALUES of what the patch shows, -1 where it shows the background; thing [B, K] bool;
    cover [B, K, 64] bool: which pixels belong to that thing; middle [B, K] bool: a thing's centre is in the patch;
    offset [B, K, 2]: from there to the patch, in radii of 12;
    meant [B, K, 2]: whether the patch belongs to the first and second group that the question is about;
    number [B, 2]: how many things are in each group, -1 where there is no such group; told [B, 2, 4] and at [B, 2, 2]:
    the facts and the place (-1..1) of the thing in each group, -1 where it is not one thing.
    """

    ids: Tensor
    mask: Tensor
    patches: Tensor
    which: Tensor
    answer: Tensor
    facts: Tensor
    thing: Tensor
    cover: Tensor
    middle: Tensor
    offset: Tensor
    meant: Tensor
    number: Tensor
    told: Tensor
    at: Tensor
    kinds: list[str]


@dataclass(frozen=True)
class Look:
    """A drawn scene, patch by patch: patches [144, 192] uint8, owner [144] (-1: background) and the facts above.

    `things` [n, 4] and `centres` [n, 2] are the same of each thing, with a row of -1 and of 0 behind them.
    """

    patches: NDArray[np.uint8]
    owner: NDArray[np.int64]
    facts: NDArray[np.int64]
    cover: NDArray[np.bool_]
    middle: NDArray[np.bool_]
    offset: NDArray[np.float32]
    things: NDArray[np.int64]
    centres: NDArray[np.float32]


def as_patches(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[96, 96, 3] -> [144, 192]: rows of patches, each in the order of the patch projection's weight."""
    return picture.reshape(ROWS, PATCH, ROWS, PATCH, 3).transpose(0, 2, 4, 1, 3).reshape(ROWS * ROWS, -1)


def look(scene: Scene) -> Look:
    """Draw a scene and note what each patch shows: the thing with the most pixels in it."""
    picture, owners = draw_with_owners(scene)
    tiles = owners.reshape(ROWS, PATCH, ROWS, PATCH).transpose(0, 2, 1, 3).reshape(ROWS * ROWS, -1)
    pixels = np.stack([(tiles == i).sum(1) for i in range(len(scene.things))], 1)
    owner = np.where(pixels.max(1) >= LEAST, pixels.argmax(1), -1)
    table = [[values.index(getattr(t, key)) for key, values in VALUES.items()] for t in scene.things]
    things = np.asarray([*table, [-1] * 4])
    centres = np.asarray([[t.x, t.y] for t in scene.things] + [[0, 0]], np.float32)
    middle = np.zeros(ROWS * ROWS, bool)
    middle[[t.y // PATCH * ROWS + t.x // PATCH for t in scene.things]] = True
    down, across = np.divmod(np.arange(ROWS * ROWS), ROWS)
    here = np.stack([across, down], 1) * PATCH + (PATCH - 1) / 2
    offset = ((here - centres[owner]) / 12).astype(np.float32)
    places = centres / (SIDE / 2) - 1
    return Look(as_patches(picture), owner, things[owner], tiles == owner[:, None], middle, offset, things, places)


@dataclass(frozen=True)
class Item:
    """A text about a drawn scene, the place of its label, its kind, and which things it means, group by group."""

    look: Look
    text: str
    label: int
    kind: str
    about: tuple[tuple[int, ...], ...] = ()


def encode(text: str) -> list[int]:
    """The token ids of a text, as the demo's tokenizer gives them."""
    return [IDS["[CLS]"], *(IDS[word] for word in text.split()), IDS["[SEP]"]]


def pad(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """ids and mask [B, T]."""
    width = -(-max(map(len, rows)) // STEP) * STEP
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    return ids, ids > 0


def questions(
    random: Random, count: int, split: str, weights: dict[str, float], most: int, each: int = 3
) -> list[Item]:
    """`count` questions, `each` on one scene, their kinds drawn by `weights`."""
    kinds, shares = list(weights), list(weights.values())
    found: list[Item] = []
    while len(found) < count:
        scene = make_scene(random, split, most=most)
        seen = look(scene)
        for kind in random.choices(kinds, shares, k=each):
            question = ask(random, scene, kind)
            if question is not None:
                found.append(Item(seen, question.text, ANSWER_IDS[question.answer], kind, question.about))
    return found[:count]


def batches(items: list[Item], random: Random, size: int, background: int) -> list[Batch]:
    """Batches of `size` questions by their number of patches: all that show a thing, filled up with background.

    `background` patches at least are added to the picture that needs the most.
    """
    items = sorted(items, key=lambda item: int((item.look.owner >= 0).sum()))
    groups = [items[i : i + size] for i in range(0, len(items), size)]
    return [batch(group, np.random.default_rng(random.getrandbits(32)), background) for group in groups]


def batch(items: list[Item], random: np.random.Generator, background: int) -> Batch:
    """One batch; see `batches`."""
    keep = max(int((item.look.owner >= 0).sum()) for item in items) + background
    keep = min(ROWS * ROWS, -(-keep // STEP) * STEP)
    # Things first, then the background in a random order.
    order = [np.argsort(random.random(ROWS * ROWS, np.float32) - 2 * (item.look.owner >= 0))[:keep] for item in items]

    def stacked(part: str) -> NDArray[Any]:
        return np.stack([getattr(item.look, part)[w] for item, w in zip(items, order, strict=True)])

    owner = stacked("owner")
    meant = [
        np.stack([np.isin(own, group) for group in (*item.about, (), ())[:2]], 1)
        for item, own in zip(items, owner, strict=True)
    ]
    groups = [[item.about[g] if g < len(item.about) else None for g in range(2)] for item in items]
    # The one thing of each group; -1 (the last row) where there is none or there are several.
    single = np.asarray([[g[0] if g is not None and len(g) == 1 else -1 for g in pair] for pair in groups])
    told = np.stack([item.look.things[one] for item, one in zip(items, single, strict=True)])
    at = np.stack([item.look.centres[one] for item, one in zip(items, single, strict=True)])
    ids, mask = pad([encode(item.text) for item in items])
    return Batch(
        ids,
        mask,
        torch.from_numpy(stacked("patches")).float() / 127.5 - 1,
        torch.from_numpy(np.stack(order)),
        torch.tensor([item.label for item in items]),
        torch.from_numpy(stacked("facts")),
        torch.from_numpy(owner >= 0),
        torch.from_numpy(stacked("cover")),
        torch.from_numpy(stacked("middle")),
        torch.from_numpy(stacked("offset")),
        torch.from_numpy(np.stack(meant)),
        torch.tensor([[-1 if g is None else len(g) for g in pair] for pair in groups]),
        torch.from_numpy(told),
        torch.from_numpy(at),
        [item.kind for item in items],
    )
