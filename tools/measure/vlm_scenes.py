"""Scenes of the demo's world with two to four plain things of one size, and what is asked about them.

No scene of the test has the same set of things as one of training (`split_of`).
"""

import json
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from pumer_convert.demo.draw import draw, draw_with_owners
from pumer_convert.demo.questions import Question, ask
from pumer_convert.demo.scene import COLORS, SHAPES, SIDE, Scene, Thing, split_of

RADIUS = 12
MOST = 4
PAIRS = len(COLORS) * len(SHAPES)
KINDS = ("color", "shape", "count", "existence", "relation")
LIST = "what is there ?"
"""Asked in training alone, as captions are: all things from left to right."""


def scene_of(random: Random, split: str) -> Scene:
    """A scene of `split`, whose things lie a little apart. Two of three have things that share a color or a shape."""
    while True:
        things: list[Thing] = []
        count, shared = random.randint(2, MOST), random.choice(("color", "shape", ""))
        usual = {"color": random.choice(COLORS), "shape": random.choice(SHAPES)}
        for _ in range(200):
            x, y = (random.randint(RADIUS, SIDE - 1 - RADIUS) for _ in range(2))
            if len(things) < count and all((t.x - x) ** 2 + (t.y - y) ** 2 >= (1.8 * RADIUS) ** 2 for t in things):
                own = {"color": random.choice(COLORS), "shape": random.choice(SHAPES)}
                if shared and random.random() < 0.6:
                    own[shared] = usual[shared]
                things.append(Thing(**own, size="large", texture="plain", x=x, y=y, radius=RADIUS))
        scene = Scene(tuple(things), random.getrandbits(32))
        if len(things) == count and split_of(scene) == split:
            return scene


def questions(random: Random, scene: Scene) -> list[Question]:
    """One of every kind that the scene offers, by color and shape alone."""
    found = []
    for kind in KINDS:
        for _ in range(10):
            question = ask(random, scene, kind)
            if question and not {"large", "small", "plain", "striped", "dotted"} & set(question.text.split()):
                found.append(question)
                break
    return found


def listing(scene: Scene) -> str:
    """The answer to `LIST`."""
    return " ".join(f"{t.color} {t.shape}" for t in sorted(scene.things, key=lambda t: t.x))


def shown(scene: Scene, patch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The picture [SIDE, SIDE, 3]; of every patch the thing that most of it shows as a number from 1 on, 0: none
    [patches]; and whether there is one of each color and shape [colors * shapes]."""
    picture, owners = draw_with_owners(scene)
    side = SIDE // patch
    cells = owners.reshape(side, patch, side, patch).transpose(0, 2, 1, 3).reshape(side * side, -1)
    numbers = [COLORS.index(t.color) * len(SHAPES) + SHAPES.index(t.shape) for t in scene.things]
    share = np.stack([(cells == i).mean(1) for i in range(len(numbers))], 1)
    best = share.argmax(1)
    labels = np.where(share.max(1) > 0.25, np.array(numbers)[best] + 1, 0)
    there = np.zeros(PAIRS, np.float32)
    there[numbers] = 1
    return picture, labels, there


def write(folder: Path, split: str, count: int, asked: bool = True) -> Path:
    """`count` scenes of a split as pictures in FOLDER/SPLIT, and what is asked about them in FOLDER/SPLIT.jsonl, unless
    they are there; gives that file, or the folder of pictures where nothing is `asked`."""
    file, pictures = folder / f"{split}.jsonl", folder / split
    if not (file if asked else folder / f"{split}.done").exists():
        pictures.mkdir(parents=True, exist_ok=True)
        rows = []
        for i in range(count):
            random = Random(f"{split}/{i}")
            scene = scene_of(random, split)
            Image.fromarray(draw(scene)).save(pictures / f"{i:05}.png")
            rows += [
                {"id": f"{i}-{q.kind}", "image": f"{split}/{i:05}.png", "question": q.text, "answer": q.answer}
                for q in questions(random, scene)
            ]
        if asked:
            file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        else:
            (folder / f"{split}.done").touch()
    return file if asked else pictures
