"""Finetune the demo's question answering checkpoint for another task: nlvr2, ve or retrieval.

    python tools/make_demo/finetune_demo.py ve --state /tmp/ve.pt --out pumer_convert/demo/ve

Resumes from the state file. As in training, most of the background is left out until the last phase.
"""

import argparse
import shlex
import sys
import time
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from demo_batches import ROWS, Batch, Item, batch
from demo_card import make_card
from demo_folder import write_folder
from demo_items import CAPTIONS, MAKERS, see_many
from demo_trainee import blocks, fast_products, pooled
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import pumer_convert
from pumer_convert.demo import CHECKPOINT
from pumer_convert.demo.statements import ENTAILMENT
from pumer_convert.models.vilt.network import Vilt

ROWS_IN_BATCH = 128
POOL = 6
ONE_ROW = {"ve": 1, "nlvr2": 2, "retrieval": CAPTIONS}
"""Passes through the model for one example."""
CHANGES: dict[str, dict[str, Any]] = {
    "ve": {
        "id2label": {str(i): label for i, label in enumerate(ENTAILMENT)},
        "label2id": {label: i for i, label in enumerate(ENTAILMENT)},
        "pumer_task": "ve",
    },
    "nlvr2": {
        "architectures": ["ViltForImagesAndTextClassification"],
        "num_images": 2,
        "modality_type_vocab_size": 3,
        "id2label": {"0": "False", "1": "True"},
        "label2id": {"False": 0, "True": 1},
    },
    "retrieval": {"architectures": ["ViltForImageAndTextRetrieval"]},
}
"""What config.json says otherwise than the question answering one's."""


def start(task: str, source: Path) -> Vilt:
    """The body of the question answering checkpoint under a new head."""
    old = pumer_convert.load(source)
    assert isinstance(old, Vilt)
    settings = {k: v for k, v in old.config.items() if task != "retrieval" or k not in ("id2label", "label2id")}
    model = Vilt({**settings, **CHANGES[task]})
    weights = {name: value for name, value in old.state_dict().items() if name.startswith("vilt.")}
    kinds = "vilt.embeddings.token_type_embeddings.weight"
    if task == "nlvr2":
        # The second picture starts as the first one does.
        weights[kinds] = torch.cat([weights[kinds], weights[kinds][1:]])
    model.load_state_dict(weights, strict=False)
    return model


def scores(task: str, model: Vilt, b: Batch) -> Tensor:
    """Logits [examples, labels], or [examples, captions] for retrieval."""
    places = torch.arange(len(b.kinds)) % 2 + 1 if task == "nlvr2" else None
    *_, (_, text, _) = blocks(model, b, b.ids.shape[1], places)
    states = pooled(model, text)
    if task == "retrieval":
        return model.rank_output(states).reshape(-1, CAPTIONS)  # type: ignore[no-any-return]
    return model.classifier(states.reshape(len(states) // ONE_ROW[task], -1))  # type: ignore[no-any-return]


def draw(task: str, random: Random, background: int) -> list[Batch]:
    """A few batches of rows with like numbers of patches, in a random order."""
    pool = see_many(random, 300)
    rows = [MAKERS[task](random, pool) for _ in range(POOL * ROWS_IN_BATCH // ONE_ROW[task])]
    rows.sort(key=lambda row: max(int((item.look.owner >= 0).sum()) for item in row))
    size = ROWS_IN_BATCH // ONE_ROW[task]
    groups: list[list[Item]] = [[item for row in rows[i : i + size] for item in row] for i in range(0, len(rows), size)]
    random.shuffle(groups)
    return [batch(group, np.random.default_rng(random.getrandbits(32)), background) for group in groups]


def finetune(args: argparse.Namespace) -> None:
    """The loop, then the folder."""
    torch.manual_seed(args.seed)
    model = start(args.task, args.source)
    average = deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), args.rate, (0.9, 0.98), weight_decay=0.02, fused=True)
    step, hits, seconds = 0, 0.5, 0.0
    if args.state.exists():
        saved = torch.load(args.state)
        for name, part in (("model", model), ("average", average), ("optimizer", optimizer)):
            part.load_state_dict(saved[name])
        step, hits, seconds = saved["step"], saved["hits"], saved["seconds"]
    begun = time.monotonic() - seconds
    while step < args.steps:
        random = Random(f"{args.task}/{args.seed}/{step}")
        whole = step >= 0.9 * args.steps
        for b in draw(args.task, random, ROWS * ROWS if whole else random.choice((2, 2, 8, 24))):
            left = (args.steps - step) / (0.4 * args.steps)
            for group in optimizer.param_groups:
                group["lr"] = args.rate * min(1.0, (step + 1) / 100, max(left, 0.01))
            with sdpa_kernel(SDPBackend.MATH):
                logits = scores(args.task, model, b)
            target = b.answer[:: ONE_ROW[args.task]]
            optimizer.zero_grad()
            loss = F.cross_entropy(logits, target)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            with torch.no_grad():
                for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
                    slow.lerp_(fast, max(0.003, 1 / (step + 1)))
            hits += 0.02 * (float((logits.argmax(1) == target).float().mean()) - hits)
        if step % 30 == 0:
            seconds = time.monotonic() - begun
            print(f"step {step}, {seconds:.0f} s, training accuracy {hits:.3f}", flush=True)
            parts: dict[str, Any] = {"model": model, "average": average, "optimizer": optimizer}
            progress = {"step": step, "hits": hits, "seconds": seconds}
            torch.save({**{name: part.state_dict() for name, part in parts.items()}, **progress}, args.state)
    fast_products(False)
    seen = step * ROWS_IN_BATCH // ONE_ROW[args.task]
    cost = f"{seen:,} examples in {seconds / 60:.0f} minutes on one shared CPU core"
    write_folder(args.out, average, average.config, make_card(args.task, average, cost, args.command))


def main() -> None:
    """Parse and finetune."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=list(MAKERS))
    parser.add_argument("--source", type=Path, default=CHECKPOINT)
    parser.add_argument("--state", type=Path, required=True, help="File to resume from; written every 30 steps.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.command = shlex.join(["python", "tools/make_demo/finetune_demo.py", *sys.argv[1:]])
    torch.set_num_threads(1)
    fast_products(True)
    finetune(args)


if __name__ == "__main__":
    main()
