"""The demo's visual world: samples of four tasks on drawn scenes, the same ones for the same arguments.

    for sample in samples("vqa", "test", 100):
        sample.image.open(), sample.text, sample.answer

Splits share no scene: a scene's fingerprint decides its split (scene.py).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from PIL import Image

from pumer_convert.demo.draw import draw
from pumer_convert.demo.questions import KINDS, ask
from pumer_convert.demo.scene import SPLITS, Scene, make_scene
from pumer_convert.demo.statements import ONE_KINDS, PAIR_KINDS, about_one, about_pair, caption
from pumer_convert.errors import InputError, nearest


@dataclass(frozen=True)
class Picture:
    """A picture that is drawn when it is opened."""

    name: str
    scene: Scene

    def open(self) -> Image.Image:
        """96x96 pixels, RGB."""
        return Image.fromarray(draw(self.scene))


@dataclass(frozen=True)
class Sample:
    """One sample: its pictures (two for nlvr2, else one), what is asked or said, the answer, and the kind of text.

    The answer is a word of words.ANSWERS (vqa), of statements.TRUTH (nlvr2) or of statements.ENTAILMENT (ve); for
    retrieval it is the name of the picture that the caption belongs to.
    """

    images: tuple[Picture, ...]
    text: str
    answer: str
    kind: str

    @property
    def image(self) -> Picture:
        """The first picture."""
        return self.images[0]


def samples(task: str, split: str, count: int, seed: int = 0) -> Iterator[Sample]:
    """`count` samples of a task ("vqa", "nlvr2", "ve", "retrieval") from "train", "validation" or "test".

    Sample i depends on the arguments and on i alone, so a longer run begins with the shorter one. Kinds take turns.
    Raises InputError for a split that is none of these.
    """
    if split not in SPLITS:
        raise InputError(f"the drawn world has no split '{split}'.{nearest(split, SPLITS)}")
    for i in range(count):
        random = Random(f"{task}/{split}/{seed}/{i}")
        picture_name = f"{task}-{split}-{seed}-{i}"
        sample = None
        while sample is None:
            sample = TASKS[task](random, split, picture_name, i)
        yield sample


def _vqa(random: Random, split: str, picture_name: str, i: int) -> Sample | None:
    scene = make_scene(random, split)
    question = ask(random, scene, list(KINDS)[i % len(KINDS)])
    if question is None:
        return None
    return Sample((Picture(picture_name, scene),), question.text, question.answer, question.kind)


def _nlvr2(random: Random, split: str, picture_name: str, i: int) -> Sample | None:
    found = about_pair(random, lambda: make_scene(random, split), list(PAIR_KINDS)[i % len(PAIR_KINDS)])
    if found is None:
        return None
    left, right, said = found
    pictures = Picture(f"{picture_name}-left", left), Picture(f"{picture_name}-right", right)
    return Sample(pictures, said.text, said.answer, said.kind)


def _ve(random: Random, split: str, picture_name: str, i: int) -> Sample | None:
    scene = make_scene(random, split)
    said = about_one(random, scene, list(ONE_KINDS)[i % len(ONE_KINDS)])
    if said is None:
        return None
    return Sample((Picture(picture_name, scene),), said.text, said.answer, said.kind)


def _retrieval(random: Random, split: str, picture_name: str, i: int) -> Sample:
    scene = make_scene(random, split)
    return Sample((Picture(picture_name, scene),), caption(random, scene), picture_name, "caption")


TASKS: dict[str, Callable[[Random, str, str, int], Sample | None]] = {
    "vqa": _vqa,
    "nlvr2": _nlvr2,
    "ve": _ve,
    "retrieval": _retrieval,
}
