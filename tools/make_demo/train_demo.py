"""Train the embedded demo checkpoint from scratch on the CPU: a small ViLT that answers questions on drawn scenes.

    python tools/make_demo/train_demo.py --state /tmp/demo-training

Resumes from the state folder. A plain ViLT of this size stays at question-only accuracy for very long, so training
gets help that the finished model does not need:
 - first the model learns to see: no text, three blocks, and heads on the patches that tell what each shows (color,
   shape, size, texture, its pixels, its thing's centre); these heads stay;
 - then, from the third block on, heads on the patches tell whether the question means what they show;
 - a head on the first word tells what it knows of the things that are meant: their number, facts and place;
 - most background patches are left out (55 tokens instead of 159) until the last phase, which trains on all of them;
 - scenes grow from three things to five, and kinds of question are drawn by their current error;
 - the patch projection starts as whitened principal components, the positions as sines and cosines of row and column.

The committed checkpoint was trained by this in several sittings; the head on the first word joined at step 2,100.
"""

import argparse
import json
import os
import shlex
import sys
import time
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import torch
from demo_batches import ROWS, Batch, batches, questions
from demo_card import accuracies, make_card
from demo_folder import write_folder
from demo_trainee import Trainee, config, fast_products
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from pumer_convert.demo import CHECKPOINT
from pumer_convert.demo.questions import KINDS
from pumer_convert.demo.scene import MOST

BATCH = 128
POOL = 6
"""Batches drawn at once, so that pictures with like numbers of patches can go together."""


def rate(step: int, steps: int, peak: float) -> float:
    """Learning rate: 100 steps of warm-up, then level, then falling over the last 35%."""
    left = (steps - step) / (0.35 * steps)
    return peak * min(1.0, (step + 1) / 100, max(left, 0.01))


def mixture(errors: dict[str, float]) -> dict[str, float]:
    """How often each kind of question is drawn."""
    return {kind: 0.1 + error for kind, error in errors.items()}


def train(rank: int, args: argparse.Namespace) -> None:
    """One of `--workers` processes: each takes its own batches, and the gradients are averaged."""
    torch.set_num_threads(1)
    fast_products(True)
    meeting = f"file://{args.state.resolve()}/meeting-{os.getppid()}"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=args.workers)
    torch.manual_seed(args.seed)
    state = State(args)
    log = (args.state / "log.jsonl").open("a")
    begun, sums = time.monotonic() - state.seconds, dict[str, float]()
    while state.step < args.steps:
        random = Random(f"{args.seed}/{state.step}/{rank}")
        most = 3 if args.seeing <= state.step < args.easy else MOST
        whole = state.step >= args.steps * (1 - args.whole)
        background = ROWS * ROWS if whole else random.choice((2, 2, 2, 2, 8, 24))
        sees_only = state.step < args.seeing
        each = 1 if sees_only else 3
        items = questions(random, POOL * BATCH, "train", mixture(state.errors), most, each)
        pool = batches(items, random, BATCH, background)
        # The same order everywhere, so that the processes wait little for each other.
        for i in Random(state.step).sample(range(POOL), POOL):
            b = pool[i]
            for group in state.optimizer.param_groups:
                group["lr"] = rate(state.step, args.steps, args.rate)
            with sdpa_kernel(SDPBackend.MATH):
                logits, losses = state.trainee(b, sees_only)
            total = sum((v * (1.0 if k == "answer" else args.help) for k, v in losses.items()), torch.zeros(()))
            state.optimizer.zero_grad()
            total.backward()
            state.average_gradients(b, None if sees_only else logits)
            nn.utils.clip_grad_norm_(state.trainee.parameters(), 1.0)
            state.optimizer.step()
            state.finish_step()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach())
        if state.step % args.every == 0 and rank == 0:
            state.seconds = time.monotonic() - begun
            line: dict[str, Any] = {"step": state.step, "seconds": round(state.seconds), "most": most}
            line["losses"] = {name: round(value / args.every, 3) for name, value in sums.items()}
            line["train"] = {kind: round(1 - error, 3) for kind, error in state.errors.items()}
            fast_products(False)
            line["validation"] = {
                k: round(v, 3) for k, v in accuracies("vqa", state.average, 600, "validation").items()
            }
            fast_products(True)
            print(json.dumps(line), file=log, flush=True)
            sums = {}
            state.save()
    if rank == 0:
        fast_products(False)
        questions_seen = state.step * args.workers * BATCH
        cost = f"{questions_seen / 1e6:.1f} M questions in {state.seconds / 60:.0f} minutes on two shared CPU cores"
        write_folder(args.out, state.average, state.average.config, make_card("vqa", state.average, cost, args.command))


class State:
    """All that training carries from step to step; read from the state folder where it is there."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.trainee = Trainee(config(args.width, args.heads, args.layers))
        self.average = deepcopy(self.trainee.model)
        decayed = [p for p in self.trainee.parameters() if p.dim() == 2]
        others = [p for p in self.trainee.parameters() if p.dim() != 2]
        groups = [{"params": decayed, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, args.rate, (0.9, 0.98), fused=True)
        self.errors, self.step, self.seconds = dict.fromkeys(KINDS, 0.5), 0, 0.0
        self.file = args.state / "state.pt"
        if self.file.exists():
            saved = torch.load(self.file)
            for part in (self.trainee, self.average, self.optimizer):
                part.load_state_dict(saved[type(part).__name__])
            self.errors, self.step, self.seconds = saved["errors"], saved["step"], saved["seconds"]

    def average_gradients(self, b: Batch, logits: Tensor | None) -> None:
        """Over the processes; and the errors by kind with them, in one message."""
        wrong = [] if logits is None else (logits.detach().argmax(1) != b.answer).tolist()
        counts = torch.zeros(len(KINDS), 2)
        for kind, miss in zip(b.kinds, wrong, strict=logits is not None):
            counts[list(KINDS).index(kind)] += torch.tensor([float(miss), 1.0])
        gradients = [p.grad for p in self.trainee.parameters() if p.grad is not None]
        flat = torch.cat([counts.flatten(), *(g.flatten() for g in gradients)])
        distributed.all_reduce(flat)
        tables, *parts = torch.split(flat, [counts.numel(), *(g.numel() for g in gradients)])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_((part / distributed.get_world_size()).view_as(gradient))
        for kind, (missed, asked) in zip(KINDS, tables.view(-1, 2).tolist(), strict=True):
            self.errors[kind] += min(1.0, asked / 1000) * (missed / max(asked, 1.0) - self.errors[kind])

    @torch.no_grad()
    def finish_step(self) -> None:
        """Count, and let the averaged weights follow."""
        self.step += 1
        share = max(0.002, 1 / (self.step + 1))
        for slow, fast in zip(self.average.parameters(), self.trainee.model.parameters(), strict=True):
            slow.lerp_(fast, share)

    def save(self) -> None:
        """All of it, in one move."""
        parts = {type(part).__name__: part.state_dict() for part in (self.trainee, self.average, self.optimizer)}
        torch.save({**parts, "errors": self.errors, "step": self.step, "seconds": self.seconds}, f"{self.file}.new")
        Path(f"{self.file}.new").rename(self.file)


def main() -> None:
    """Parse and train."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=7000)
    parser.add_argument("--every", type=int, default=60, help="Steps between evaluations; each also saves.")
    parser.add_argument("--seeing", type=int, default=840, help="Steps without text.")
    parser.add_argument(
        "--easy", type=int, default=1500, help="Up to this step, questions are of three things at most."
    )
    parser.add_argument("--whole", type=float, default=0.1, help="Share of the steps, at the end, on all patches.")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--help-weight", dest="help", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=CHECKPOINT)
    args = parser.parse_args()
    args.command = shlex.join(["python", "tools/make_demo/train_demo.py", *sys.argv[1:]])
    args.state.mkdir(parents=True, exist_ok=True)
    multiprocessing.spawn(train, (args,), args.workers)  # type: ignore[attr-defined, no-untyped-call]


if __name__ == "__main__":
    main()
