"""The demo's visual world: the splits are apart, pictures repeat, answers are right and balanced, words are known."""

import json
from collections import Counter
from functools import cache
from itertools import islice

import numpy as np
import pytest

from pumer_convert.demo.scene import COLORS, SHAPES, SIZES, SPLITS, TEXTURES, Scene, Thing, fingerprint
from pumer_convert.demo.statements import ENTAILMENT, TRUTH
from pumer_convert.demo.words import ANSWERS, NUMBERS, VOCABULARY
from pumer_convert.demo.world import TASKS, Sample, samples

LABELS = {"vqa": ANSWERS, "nlvr2": TRUTH, "ve": ENTAILMENT}


@cache
def draw_many(task: str, count: int = 360) -> list[Sample]:
    return list(samples(task, "test", count))


def described(words: list[str], scene: Scene) -> list[Thing]:
    """The things that "small striped red star" or "objects" may mean, read word by word."""
    things = list(scene.things)
    for word in words:
        noun = {"crosses": "cross"}.get(word, word.removesuffix("s") if word != "cross" else word)
        for attribute, values in (("color", COLORS), ("shape", SHAPES), ("size", SIZES), ("texture", TEXTURES)):
            value = noun if attribute == "shape" else word
            if value in values:
                things = [thing for thing in things if getattr(thing, attribute) == value]
    return things


def only(words: list[str], scene: Scene) -> Thing:
    (thing,) = described(words, scene)
    return thing


def place_holds(first: Thing, words: list[str], second: Thing) -> bool:
    ahead = {
        "left": second.x - first.x,
        "right": first.x - second.x,
        "above": second.y - first.y,
        "below": first.y - second.y,
    }[words[0]]
    assert abs(ahead) >= 14
    return ahead > 0


def split_at(words: list[str], *marks: str) -> tuple[list[str], list[str]]:
    place = next(i for i, word in enumerate(words) if word in marks)
    return words[:place], words[place:]


def answer_of(text: str, scene: Scene) -> str:
    """The answer to a question, found from its words alone."""
    words = text.split()[:-1]
    if words[0] == "what":
        return str(getattr(only(words[4:], scene), words[1]))
    if words[0] == "how":
        return NUMBERS[len(described(words[2:], scene))]
    if words[:2] == ["is", "there"]:
        return "yes" if described(words[3:], scene) else "no"
    if words[0] == "are":
        first, second = split_at(words[3:], "than")
        ahead = len(described(first, scene)) - len(described(second, scene))
        assert ahead
        return "yes" if (ahead > 0) == (words[2] == "more") else "no"
    head, tail = split_at(words[2:], "left", "right", "above", "below", "larger", "smaller", "same", "the")
    one = only(head, scene)
    if tail[0] == "the":
        return "yes" if getattr(one, tail[2]) == getattr(only(tail[4:], scene), tail[2]) else "no"
    other = only(split_at(tail, "the")[1], scene)
    if tail[0] in ("larger", "smaller"):
        assert one.size != other.size
        return "yes" if (one.size == "large") == (tail[0] == "larger") else "no"
    return "yes" if place_holds(one, tail, other) else "no"


def label_of(text: str, scene: Scene) -> str:
    """What a scene says of a statement, found from its words alone."""
    head, tail = split_at(text.split()[1:-1], "is")
    subject, rest = described(head, scene), tail[1:]
    if rest[0] in ("left", "right", "above", "below"):
        target = described(split_at(rest, "the")[1], scene)
        if not subject or not target:
            return "neutral"
        assert (len(subject), len(target)) == (1, 1)
        return "entailment" if place_holds(subject[0], rest, target[0]) else "contradiction"
    if not subject:
        return "neutral"
    assert len(subject) == 1
    return "entailment" if subject[0] in described(rest, scene) else "contradiction"


def truth_of(text: str, left: Scene, right: Scene) -> bool:
    """Whether a statement is true of two scenes, found from its words alone."""
    words = text.split()[:-1]
    if words[0] == "there":
        return NUMBERS.index(words[2]) == len(described(words[3:], left)) + len(described(words[3:], right))
    if words[:2] == ["the", "left"]:
        of = split_at(words[5:], "than")[0]
        ahead = len(described(of, left)) - len(described(of, right))
        assert ahead
        return (ahead > 0) == (words[4] == "more")
    number = sum(bool(described(words[3:], scene)) for scene in (left, right))
    return number == {"neither": 0, "only": 1, "both": 2}[words[0]]


def test_splits_share_no_set_of_things() -> None:
    prints = {
        split: {fingerprint(p.scene) for task in TASKS for s in samples(task, split, 100) for p in s.images}
        for split in SPLITS
    }
    assert min(map(len, prints.values())) > 400
    assert not prints["train"] & prints["validation"]
    assert not prints["train"] & prints["test"]
    assert not prints["validation"] & prints["test"]


@pytest.mark.parametrize("task", TASKS)
def test_the_same_arguments_give_the_same_samples_and_pictures(task: str) -> None:
    first, again = draw_many(task, count=12), list(islice(samples(task, "test", 500), 12))
    assert first == again
    assert first != list(samples(task, "test", 12, seed=1))
    for one, other in zip(first, again, strict=True):
        for a, b in zip(one.images, other.images, strict=True):
            picture = a.open()
            assert (picture.size, picture.mode) == ((96, 96), "RGB")
            assert np.array_equal(np.asarray(picture), np.asarray(b.open()))
    assert len({picture.name for sample in first for picture in sample.images}) == 12 * len(first[0].images)


def test_pictures_show_their_things() -> None:
    from pumer_convert.demo.draw import draw_with_owners

    for sample in draw_many("vqa", count=60):
        owners = draw_with_owners(sample.image.scene)[1]
        for i, thing in enumerate(sample.image.scene.things):
            alone = draw_with_owners(Scene((thing,), 0))[1]
            assert (owners == i).sum() >= 0.6 * (alone == 0).sum()


def test_every_question_has_the_answer_that_its_words_ask_for() -> None:
    for sample in draw_many("vqa"):
        assert answer_of(sample.text, sample.image.scene) == sample.answer, sample.text


def test_every_statement_has_the_label_that_its_words_ask_for() -> None:
    for sample in draw_many("ve"):
        assert label_of(sample.text, sample.image.scene) == sample.answer, sample.text
    for sample in draw_many("nlvr2"):
        assert TRUTH[truth_of(sample.text, *(p.scene for p in sample.images))] == sample.answer, sample.text


def test_captions_name_things_that_are_there() -> None:
    for sample in draw_many("retrieval"):
        parts = sample.text.removesuffix(" .").replace(" and ", " , ").split(" , ")
        found = [described(part.split(), sample.image.scene) for part in parts]
        assert all(found)
        assert len(parts) == min(3, len(sample.image.scene.things))


@pytest.mark.parametrize("task", TASKS)
def test_every_word_and_label_is_known(task: str) -> None:
    words = {word for sample in draw_many(task) for word in sample.text.split()}
    assert words <= set(VOCABULARY)
    assert len(VOCABULARY) == len(set(VOCABULARY))
    assert max(len(sample.text.split()) for sample in draw_many(task)) + 2 <= 40
    if task in LABELS:
        assert {sample.answer for sample in draw_many(task)} <= set(LABELS[task])


def test_the_checkpoint_has_these_words_and_labels_and_answers_from_the_picture() -> None:
    import torch
    from transformers import AutoTokenizer

    import pumer_convert
    from pumer_convert.demo import CHECKPOINT

    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
    assert sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__) == list(VOCABULARY)
    config = json.loads((CHECKPOINT / "config.json").read_text())
    assert tuple(config["id2label"].values()) == ANSWERS
    tests = draw_many("vqa")[:180]
    texts = tokenizer([sample.text for sample in tests], padding=True, return_tensors="pt")
    pictures = torch.from_numpy(np.stack([np.asarray(sample.image.open()) for sample in tests]))
    pixels = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        model = pumer_convert.load(CHECKPOINT)
        right, blind = (
            sum(ANSWERS[i] == s.answer for i, s in zip(found.argmax(1).tolist(), tests, strict=True)) / len(tests)
            for found in (model(texts.input_ids, texts.attention_mask, x).logits for x in (pixels, pixels.roll(1, 0)))
        )
    assert right > 0.97
    assert blind < 0.6


def test_answers_are_balanced() -> None:
    for task, limit in (("nlvr2", 0.56), ("ve", 0.4)):
        found = Counter(sample.answer for sample in draw_many(task))
        assert max(found.values()) / found.total() < limit
    by_kind: dict[str, Counter[str]] = {}
    for sample in draw_many("vqa", count=1800):
        by_kind.setdefault(sample.kind, Counter())[sample.answer] += 1
    limits = {"color": 0.22, "shape": 0.28, "count": 0.4, "existence": 0.57, "relation": 0.57, "comparison": 0.57}
    assert {kind: c.total() for kind, c in by_kind.items()} == dict.fromkeys(limits, 300)
    for kind, found in by_kind.items():
        assert max(found.values()) / found.total() < limits[kind], kind
