"""What a demo checkpoint can do, measured on test scenes, and the card that says so."""

from collections import Counter, defaultdict

import numpy as np
import torch

from pumer_convert.demo.scene import COLORS, SHAPES
from pumer_convert.demo.statements import ENTAILMENT, TRUTH
from pumer_convert.demo.words import ANSWERS, NUMBERS, VOCABULARY
from pumer_convert.demo.world import Sample, samples
from pumer_convert.models.vilt.network import Vilt

TESTED = 6000
"""Test samples that the card's numbers are of."""
CANDIDATES = 16
"""Captions that retrieval chooses from: the picture's own and those of the next pictures."""
LABELS = {"vqa": ANSWERS, "nlvr2": TRUTH, "ve": ENTAILMENT}
POSSIBLE = {"color": len(COLORS), "shape": len(SHAPES), "count": len(NUMBERS)}
"""How many answers a kind of question has, where it isn't yes or no."""
TITLES = {
    "vqa": "answers questions about drawn scenes",
    "nlvr2": "tells whether a statement is true of two drawn scenes",
    "ve": "tells whether a drawn scene entails a statement, contradicts it or says nothing about it",
    "retrieval": "tells how well a caption fits a drawn scene",
}


def pixels(batch: list[Sample]) -> torch.Tensor:
    """The pictures of samples as the processor makes them: [B, 3, 96, 96], or [B, 2, 3, 96, 96] of pairs."""
    pictures = np.stack([np.stack([np.asarray(picture.open()) for picture in sample.images]) for sample in batch])
    values = torch.from_numpy(pictures).permute(0, 1, 4, 2, 3).float() / 127.5 - 1
    return values if values.shape[1] > 1 else values[:, 0]


def tokens(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Texts as the tokenizer makes them: ids and mask [B, T]."""
    rows = [[2, *(VOCABULARY.index(word) for word in text.split()), 3] for text in texts]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    return ids, (ids > 0).long()


@torch.no_grad()
def accuracies(task: str, model: Vilt, count: int = TESTED, split: str = "test") -> dict[str, float]:
    """Accuracy on a split's scenes by kind, and of all; of retrieval, how often the right caption comes first."""
    model.eval()
    right: dict[str, list[bool]] = defaultdict(list)
    tests = list(samples(task, split, count if task != "retrieval" else count // 6))
    for start in range(0, len(tests), 100):
        batch = tests[start : start + 100]
        if task == "retrieval":
            hits = first_of_many(model, batch)
        else:
            ids, mask = tokens([sample.text for sample in batch])
            found = model(ids, mask, pixels(batch)).logits.argmax(1).tolist()
            hits = [LABELS[task][label] == sample.answer for sample, label in zip(batch, found, strict=True)]
        for sample, hit in zip(batch, hits, strict=True):
            right[sample.kind].append(hit)
    return by_kind(right)


def first_of_many(model: Vilt, batch: list[Sample]) -> list[bool]:
    """Whether each picture's own caption scores higher than those of the next pictures of the batch."""
    pictures, n = pixels(batch), len(batch)
    scores = []
    for shift in range(CANDIDATES):
        ids, mask = tokens([batch[(i + shift) % n].text for i in range(n)])
        scores.append(model(ids, mask, pictures).logits[:, 0])
    return [place == 0 for place in torch.stack(scores, 1).argmax(1).tolist()]


def text_only(task: str, count: int = TESTED) -> dict[str, float]:
    """Accuracy on test scenes of the most common answer to the same text (else to the same kind) in training."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in samples(task, "train", 5 * count):
        seen[sample.text][sample.answer] += 1
        seen[sample.kind][sample.answer] += 1
    right: dict[str, list[bool]] = defaultdict(list)
    for sample in samples(task, "test", count):
        answers = seen.get(sample.text) or seen[sample.kind]
        right[sample.kind].append(answers.most_common(1)[0][0] == sample.answer)
    return by_kind(right)


def by_kind(right: dict[str, list[bool]]) -> dict[str, float]:
    """Shares of hits."""
    every = [hit for hits in right.values() for hit in hits]
    return {**{kind: sum(hits) / len(hits) for kind, hits in right.items()}, "all": sum(every) / len(every)}


def make_card(task: str, model: Vilt, cost: str, command: str) -> str:
    """The README of the folder."""
    got = accuracies(task, model)
    if task == "retrieval":
        blind = chance = dict.fromkeys(got, 1 / CANDIDATES)
        measured = f"How often a picture's own caption comes first of {CANDIDATES}, on {TESTED // 6} test scenes"
    else:
        blind = text_only(task)
        chance = {kind: 1 / (len(LABELS[task]) if task != "vqa" else POSSIBLE.get(kind, 2)) for kind in got}
        chance["all"] = sum(value for kind, value in chance.items() if kind != "all") / (len(got) - 1)
        measured = f"Accuracy on {TESTED} test samples"
    rows = "\n".join(f"| {kind} | {got[kind]:.1%} | {blind[kind]:.1%} | {chance[kind]:.1%} |" for kind in got)
    c = model.config
    shape = f"{c['num_hidden_layers']} layers, width {c['hidden_size']}, {c['num_attention_heads']} heads"
    count = sum(p.numel() for p in model.parameters())
    return f"""# The demo's ViLT: {task}

A small ViLT ({shape}, {count / 1e6:.2f} M parameters, 96x96 pixels in 144 patches of 8x8) that
{TITLES[task]}: two to five things of seven colors, five shapes, two sizes and
three textures on a noisy background, some partly hidden (`pumer_convert/demo/world.py`). Trained on such scenes alone,
it knows no photographs.

{measured}.
Their sets of things never occur in training. Beside it what the text alone gives (the most common answer to the same
words in training), and chance:

| kind | accuracy | text only | chance |
|---|---|---|---|
{rows}

Trained with {cost}, by

    {command}
"""
