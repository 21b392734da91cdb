"""The ablations of PuMer (ACL 2023, section 5) on the demo's drawn world, every row at the same multiply-accumulates.

    python tools/measure/ablations.py --work /tmp/ablations               # three minutes of training, three seeds
    python tools/measure/ablations.py --work /tmp/ablations --steps 2 --seeds 1 --test 50      # does it run?

Each row: a recipe whose shares are all multiplied with one factor, found by bisection, until the plan costs what full
PuMer costs; `apply`; `distill` on fresh scenes; the metric on test scenes, beside the dense model's on the same ones.
What is finished in the work folder is not done again.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import pumer_convert
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.load import spec_of
from pumer_convert.convert.plan import Plan, edits_of, make_plan
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.data.sample import Sample
from pumer_convert.demo import CHECKPOINT
from pumer_convert.demo.path import lessons
from pumer_convert.evaluation.bootstrap import interval
from pumer_convert.evaluation.predict import Predictions, predict
from pumer_convert.models.spec import ModelSpec
from pumer_convert.recipe.schema import parse_recipe
from pumer_convert.recipe.settings import DistillSettings
from pumer_convert.tasks import open_task
from pumer_convert.training.distill import distill
from pumer_convert.weights import Checkpoint

MOST = 0.95
"""The largest share that a row may come to."""
TRIAL = 14
"""Steps that tell how many fit into the minutes; the first four, in which kernels are compiled, do not count."""


@dataclass(frozen=True)
class Variant:
    """A row of the table: shares at `sites`, pruning `by` a score, and the training: "distill", "task" (the task's loss
    alone) or "none". Before that, perhaps, the share `first` of the image's tokens merged `first_by` keys alone at
    `first_sites`, and images of another size."""

    name: str
    sites: tuple[str, ...]
    prune: float
    merge: float
    text: float
    by: str = "relevance"
    training: str = "distill"
    first_sites: tuple[str, ...] = ()
    first: float = 0.0
    first_by: str = "pitome"
    image_size: int | None = None

    def times(self, factor: float) -> "Variant":
        """With all shares multiplied, to four decimals."""
        shares = {name: round(getattr(self, name) * factor, 4) for name in ("prune", "merge", "text", "first")}
        return replace(self, **shares)

    def recipe(self, family: str) -> str:
        """As a recipe."""
        merge = {"image": self.merge, "text": self.text}
        merge = {modality: share for modality, share in merge.items() if share}
        steps = []
        if self.first:
            steps.append(f"  - at: [{', '.join(self.first_sites)}]")
            steps.append(f"    merge: {{image: {self.first:.4f}, by: {self.first_by}}}")
        if self.prune or merge:
            steps.append(f"  - at: [{', '.join(self.sites)}]")
        if self.prune:
            steps.append(f"    prune: {{image: {self.prune:.4f}, by: {self.by}}}")
        if merge:
            steps.append(f"    merge: {{{', '.join(f'{m}: {share:.4f}' for m, share in merge.items())}}}")
        size = [] if self.image_size is None else [f"image_size: {self.image_size}"]
        reduce = ["reduce:", *steps] if steps else ["reduce: []"]
        return "\n".join(["recipe: 1", f"model: {family}", *size, *reduce]) + "\n"


def plan_of(variant: Variant, family: str, spec: ModelSpec, text_length: int) -> Plan:
    """What a variant costs."""
    recipe = parse_recipe(variant.recipe(family))
    return make_plan(spec, edits_of(recipe, spec), text_length)


def macs(plan: Plan) -> int:
    """All of them, the reducers' own included."""
    return plan.macs + plan.reducer_macs


def fitted(variant: Variant, target: int, family: str, spec: ModelSpec, text_length: int) -> Variant:
    """The variant with its shares multiplied so that it costs `target`, as nearly as whole tokens allow."""

    def cost(factor: float) -> int:
        return macs(plan_of(variant.times(factor), family, spec, text_length))

    low, high = 0.0, MOST / max(variant.prune, variant.merge, variant.text, variant.first)
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) > target else (low, middle)
    # 1 stands first: shares that cost as much as they are stay as they are.
    return variant.times(min((1.0, low, high), key=lambda factor: abs(cost(factor) - target)))


def variants(full: Variant, late: Sequence[str], target: int, family: str, spec: ModelSpec, text: int) -> list[Variant]:
    """The rows. The late layer is the last of `late` at which one reduction can still save as much."""
    rows = [
        full,
        replace(full, name="score: attention of the image's CLS", by="cls_attention"),
        replace(full, name="score: random", by="random"),
        replace(full, name="without merging", merge=0.0, text=0.0),
        replace(full, name="without pruning", prune=0.0),
        replace(full, name="without distillation (task loss alone)", training="task"),
        replace(full, name="without any training", training="none"),
        replace(full, name=f"one early layer ({full.sites[0]})", sites=full.sites[:1]),
    ]
    ones = [replace(full, name=f"one late layer ({site})", sites=(site,)) for site in late if site != full.sites[0]]
    reached = [one for one in ones if _reaches(one, target, family, spec, text)]
    rows = [row for row in (*rows, *reached[-1:]) if row.prune or row.merge or row.text]
    return [fitted(row, target, family, spec, text) for row in rows]


def _reaches(variant: Variant, target: int, family: str, spec: ModelSpec, text: int) -> bool:
    return abs(macs(plan_of(fitted(variant, target, family, spec, text), family, spec, text)) / target - 1) < 0.02


@dataclass(frozen=True)
class Bench:
    """Where and on what everything is measured."""

    checkpoint: Checkpoint
    spec: ModelSpec
    work: Path
    test: list[Sample]
    text_length: int
    args: argparse.Namespace

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Bench":
        """By the command's options."""
        args.work.mkdir(parents=True, exist_ok=True)
        checkpoint = open_checkpoint(args.checkpoint)
        test = lessons(checkpoint.task, "test", args.test)
        _, mask = Preprocessor.of(args.checkpoint).text([sample.text for sample in test])
        return cls(checkpoint, spec_of(checkpoint), args.work, test, round(float(mask.sum(1).mean())), args)

    def plan(self, variant: Variant) -> Plan:
        """What a variant costs here."""
        spec = spec_of(self.checkpoint, variant.image_size)
        return plan_of(variant, self.checkpoint.family, spec, self.text_length)

    def predict(self, folder: Path) -> Predictions:
        """On the test scenes."""
        task = open_task(self.checkpoint.task, self.checkpoint.config)
        model = pumer_convert.load(folder).to(self.args.device)
        return predict(model, self.test, task, Preprocessor.of(folder), batch_size=64, device=self.args.device)

    def student(self, variant: Variant) -> Path:
        """The reduced checkpoint, not trained yet."""
        folder = self.work / "".join(c if c.isalnum() else "-" for c in variant.name)
        recipe = folder.with_suffix(".yaml")
        recipe.write_text(variant.recipe(self.checkpoint.family))
        pumer_convert.apply(self.args.checkpoint, recipe, folder, text_length=self.text_length, overwrite=True)
        return folder

    def train(self, student: Path, out: Path, steps: int, seed: int, training: str, **how: Any) -> float:
        """Teach a student on fresh scenes; what is finished is left as it is. Gives the seconds that it took."""
        settings = DistillSettings(
            epochs=1,
            batch_size=self.args.batch_size,
            learning_rate=self.args.learning_rate,
            head_multiplier=self.args.head_multiplier,
            kd=0.0 if training == "task" else self.args.kd,
            keep="last",
            seed=seed,
        )
        scenes = lessons(self.checkpoint.task, "train", steps * self.args.batch_size)
        report = distill(
            student,
            self.args.checkpoint,
            scenes,
            None,
            out,
            settings,
            device=self.args.device,
            workers=self.args.workers,
            resume=True,
            overwrite=True,
            **how,
        )
        return float(report["distill"]["seconds"])

    def steps(self, student: Path) -> int:
        """How many steps a training has: as told, or as many as fit into the minutes, found once for all rows."""
        if self.args.steps:
            return int(self.args.steps)
        noted = self.work / f"steps-in-{self.args.minutes:g}-minutes.txt"
        if not noted.exists():
            times: list[float] = []
            self.train(
                student, self.work / "trial", TRIAL, 0, "distill", watch=lambda _: times.append(time.monotonic())
            )
            noted.write_text(str(max(1, int(60 * self.args.minutes * (TRIAL - 4) / (times[-1] - times[3])))))
        return int(noted.read_text())


def measure(bench: Bench, variant: Variant, dense: Tensor, steps: int) -> dict[str, Any]:
    """One row: the mean over seeds, and its difference from `dense`, whose interval is over the examples (of each the
    mean over seeds)."""
    student, plan = bench.student(variant), bench.plan(variant)
    seeds = range(bench.args.seeds) if variant.training != "none" else range(1)
    scores, seconds = [], []
    for seed in seeds:
        say(f"{variant.name}, seed {seed}")
        out = student
        if variant.training != "none":
            out = student.with_name(f"{student.name}-{seed}")
            seconds.append(bench.train(student, out, steps, seed, variant.training))
        scores.append(bench.predict(out).scores.double())
    mean = torch.stack(scores).mean(0)
    return {
        **asdict(variant),
        "macs": macs(plan),
        "image_tokens": plan.rows[-1].image_out,
        "score": float(mean.mean()),
        "seeds": [float(score.mean()) for score in scores],
        "seconds": max(seconds, default=0.0),
        "difference": float((mean - dense).mean()),
        "interval": interval((mean - dense).numpy()),
    }


def run(bench: Bench, rows: Sequence[Variant], file: str, how: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """The report on rows, each measured by `how` (see `measure`); written to `file` in the work folder row by row."""
    say("dense")
    dense = bench.predict(bench.args.checkpoint).scores.double()
    steps = bench.steps(bench.student(rows[0]))
    report: dict[str, Any] = {
        "checkpoint": bench.args.checkpoint.name,
        "task": bench.checkpoint.task,
        "test": len(bench.test),
        "seeds": bench.args.seeds,
        "steps": steps,
        "batch_size": bench.args.batch_size,
        "learning_rate": bench.args.learning_rate,
        "text_length": bench.text_length,
        "dense": float(dense.mean()),
        "dense_interval": interval(dense.numpy()),
        "dense_macs": macs(make_plan(bench.spec, (), bench.text_length)),
        "image_tokens": bench.spec.image_tokens,
        "rows": [],
    }
    for row in rows:
        report["rows"].append(how(bench, row, dense, steps))
        (bench.args.work / file).write_text(json.dumps(report, indent=2) + "\n")
    return report


def table(report: dict[str, Any]) -> str:
    """The report for a person."""
    full = report["rows"][0]["macs"]
    lines = [
        f"{report['test']} test examples, {report['steps']} steps of {report['batch_size']}, mean of "
        f"{report['seeds']} seed(s); MACs at {report['text_length']} text tokens",
        f"dense: {report['dense']:.2%}, {report['dense_macs'] / 1e6:.1f} MMACs, {report['image_tokens']} image tokens",
        f"full PuMer: {full / 1e6:.1f} MMACs",
        "",
        f"{'':<40}{'MACs':>7}{'image':>7}{'prune':>7}{'merge':>7}{'text':>7}{'score':>9}  against dense, in points",
    ]
    for row in report["rows"]:
        low, high = row["interval"]
        shares = "".join(f"{row[name]:>7.3f}" for name in ("prune", "merge", "text"))
        spread = f"  seeds {min(row['seeds']):.2%} .. {max(row['seeds']):.2%}" if len(row["seeds"]) > 1 else ""
        lines.append(
            f"{row['name']:<40}{row['macs'] / full:>7.3f}{row['image_tokens']:>7}{shares}{row['score']:>9.2%}"
            f"  {100 * row['difference']:+.2f} ({100 * low:+.2f} .. {100 * high:+.2f}){spread}"
        )
    return "\n".join(lines)


def say(line: str) -> None:
    """Progress, on standard error."""
    print(line, file=sys.stderr, flush=True)


def options(words: Sequence[str] | None = None, description: str | None = __doc__) -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="the dense checkpoint")
    parser.add_argument("--at", nargs="+", help="sites of the cascade (default: every second, from the second on)")
    parser.add_argument("--prune", type=float, default=0.2)
    parser.add_argument("--merge", type=float, default=0.2)
    parser.add_argument("--text", type=float, default=0.2)
    parser.add_argument("--only", nargs="+", help="only rows whose name contains one of these; full PuMer always")
    parser.add_argument("--seeds", type=int, default=3)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=3.0, help="of training, for each row and seed")
    length.add_argument("--steps", type=int, help="of training, instead of minutes")
    parser.add_argument("--test", type=int, default=2000, help="test examples")
    parser.add_argument("--batch-size", type=int, default=32)
    # Not the published 10 times as fast head, which so short a training does not bring to rest.
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--head-multiplier", type=float, default=1.0, help="the head's rate is this times as high")
    parser.add_argument("--kd", type=float, default=1.0, help="weight of the distillation term")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    args = options(words)
    bench = Bench.of(args)
    sites, family = bench.spec.guided, bench.checkpoint.family
    cascade = tuple(args.at or sites[1::2])
    full = Variant("full PuMer (cascade)", cascade, args.prune, args.merge, args.text)
    target = macs(bench.plan(full))
    rows = variants(full, sites, target, family, bench.spec, bench.text_length)
    if args.only:
        rows = [rows[0], *(row for row in rows[1:] if any(part in row.name for part in args.only))]
    report = run(bench, rows, "ablations.json", measure)
    print(json.dumps(report, indent=2) if args.json else table(report))


if __name__ == "__main__":
    main()
