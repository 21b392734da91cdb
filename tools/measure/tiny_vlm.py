"""A small LLaVA trained from scratch on drawn scenes, and what each way to save costs it, in scenes with other things.

    python tools/measure/tiny_vlm.py vlm.json --work /tmp/vlm
    python tools/measure/tiny_vlm.py vlm.json --table            # the table of README.md here, measuring nothing

Trained once (vlm_training.py); then every kind that prunes at the projector keeps a quarter of the tokens, tokens merge
in the tower, with their places back or without, or pictures are smaller; what changes tokens is measured again after
`distill` has taught it by the pictures of training alone. Whole models answer, in one word, by transformers; where a
picture has fewer tokens, once with the positions that these had among all of it and once renumbered, as other runtimes
do it. What is done goes by steps, not by time; a second run goes on where the first ended.
"""

import json
from pathlib import Path
from typing import Any

import click
import torch
import transformers
from vlm_scenes import KINDS, write
from vlm_training import PATCH, train

from pumer_convert import DistillSettings, InputError, distill, prepare_apply, training_samples
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.data.formats import read_samples
from pumer_convert.demo.scene import SIDE
from pumer_convert.evaluation.bootstrap import interval
from pumer_convert.evaluation.generate import Generator, generate_each
from pumer_convert.export.layouts.hf import export_hf
from pumer_convert.models.family import family_of
from pumer_convert.models.reductions import POSITIONS
from pumer_convert.reducers import KINDS as REDUCERS
from pumer_convert.tasks import open_generation_task

QUARTER = (SIDE // PATCH) ** 2 // 4
WORDS = 10
"""Tokens of a question, for the ratio of MACs: tower, projector and language model, up to the first word it writes."""
MERGED = {
    "merged by tome, places back": "{at: vision.0-2, merge: {image: 0.4, by: tome}, unmerge: before_projector}",
    "merged by pitome, places back": "{at: vision.0-2, merge: {image: 0.4, by: pitome}, unmerge: before_projector}",
    "merged by tome": "{at: vision.0-2, merge: {image: 0.2, by: tome}}",
    "merged by pitome": "{at: vision.0-2, merge: {image: 0.2, by: pitome}}",
}
SMALLER = (84, 72, 48)
"""Sides of smaller pictures: 49, 36 and 16 patches of 64."""


def ways(dense: Path) -> dict[str, str]:
    """Recipes by name."""
    checkpoint = open_checkpoint(dense)
    spec = family_of(checkpoint.family).spec(checkpoint.config)
    scores = {None, *next(layer for layer in spec.layers if layer.name == "projector").scores}
    kinds = [name for name, kind in REDUCERS["prune"].items() if kind.score in scores]
    pruned = {
        f"pruned by {kind}": f"{{at: projector, prune: {{image: {{keep: {QUARTER}}}, by: {kind}}}}}" for kind in kinds
    }
    reduced = {name: f"reduce: [{steps}]" for name, steps in (pruned | MERGED).items()}
    return reduced | {f"pictures of {side}": f"image_size: {side}\nreduce: []" for side in SMALLER}


def answered(whole: Path, file: Path, batch: int = 64) -> list[float]:
    """What a whole model's answer to each question earns, which is one word: of kinds in training alone it writes more,
    and begins to do so when tokens are gone. Kept beside it."""
    kept = whole.with_suffix(".answers.json")
    if not kept.exists():
        generator = Generator.open(open_checkpoint(whole), torch.device("cpu"), "", 1)
        samples, task = read_samples(file, "vqa").samples, open_generation_task("vqa")
        (found,) = generate_each([generator], samples, task, batch_size=batch, progress=lambda done, total: None)
        kept.write_text(json.dumps(found.scores.tolist()), "utf-8")
    scores: list[float] = json.loads(kept.read_text("utf-8"))
    return scores


def row(name: str, ratio: float, tokens: int, scores: list[float], dense: list[float], file: Path) -> dict[str, Any]:
    """One line of the report."""
    kinds = [json.loads(line)["id"].rpartition("-")[2] for line in file.read_text("utf-8").splitlines()]
    differences = [own - theirs for own, theirs in zip(scores, dense, strict=True)]
    by_kind = {kind: [score for one, score in zip(kinds, scores, strict=True) if one == kind] for kind in KINDS}
    return {
        **{"name": name, "ratio": ratio, "tokens": tokens, "score": sum(scores) / len(scores)},
        "kinds": {kind: sum(found) / max(len(found), 1) for kind, found in by_kind.items()},
        "difference": sum(differences) / len(differences),
        "interval": interval(differences),
    }


def part_of(dense: Path, name: str, recipe: str, work: Path) -> tuple[Path, float]:
    """The vision part that a recipe made of the dense model's, and how many times fewer MACs the whole takes."""
    out, file = work / name.replace(" ", "-").replace(",", ""), work / "recipe.yaml"
    file.write_text(f"recipe: 1\nmodel: llava\n{recipe}\n", "utf-8")
    prepared = prepare_apply(dense, file, out, text_length=WORDS)
    if not out.exists():
        prepared.write()
    plan = prepared.plan
    return out, plan.dense_macs / (plan.macs + plan.reducer_macs)


def taught(part: Path, pictures: Path, epochs: int) -> Path | None:
    """A vision part after some epochs of distillation; None where there is nothing to learn."""
    out = part.with_name(f"{part.name}-taught")
    if not out.exists():
        samples, _ = training_samples(pictures, "pictures")
        settings = DistillSettings(epochs=epochs, batch_size=32, learning_rate=5e-4, keep="last")
        try:
            distill(part, None, samples, out=out, settings=settings, device="cpu")
        except InputError as error:
            if "nothing to learn" not in str(error):
                raise
            return None
    return out


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [
        f"{report['questions']} questions; trained for {report['steps']} steps, taught for {report['epochs']} epochs "
        f"of {report['pictures']} pictures.",
        "",
        f"| | fewer MACs | tokens | right | {' | '.join(KINDS)} | difference, in points |",
        "|---" * (len(KINDS) + 5) + "|",
    ]
    for one in report["rows"]:
        low, high = (100 * end for end in one["interval"])
        differs = "" if one["name"] == "dense" else f"{100 * one['difference']:+.1f} ({low:+.1f} .. {high:+.1f})"
        shares = " | ".join(f"{one['kinds'][kind]:.1%}" for kind in KINDS)
        lines.append(
            f"| {one['name']} | x{one['ratio']:.2f} | {one['tokens']} | {one['score']:.1%} | {shares} | {differs} |"
        )
    return "\n".join(lines)


@click.command()
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--work", type=click.Path(path_type=Path, file_okay=False), help="Folder of scenes and models.")
@click.option("--steps", default=2500, show_default=True, help="Of the training from scratch.")
@click.option("--scenes", default=8000, show_default=True, help="To train on.")
@click.option("--test", default=150, show_default=True, help="Scenes that are asked about.")
@click.option("--pictures", default=512, show_default=True, help="To teach by.")
@click.option("--epochs", default=8, show_default=True, help="Of each distillation.")
@click.option("--table", "only_table", is_flag=True, help="Print the table of OUT and stop.")
def main(
    out: Path, work: Path | None, steps: int, scenes: int, test: int, pictures: int, epochs: int, only_table: bool
) -> None:
    """Train, reduce, teach, measure; OUT is the report. What is in the work folder is taken again."""
    if only_table:
        click.echo(table(json.loads(out.read_text("utf-8"))))
        return
    if work is None:
        raise click.UsageError("--work says where scenes and models go.")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    work.mkdir(parents=True, exist_ok=True)
    dense, file = work / "dense", write(work, "test", test)
    if not dense.exists():
        train(dense, steps, scenes)
    alone = write(work, "train", pictures, asked=False)
    full = answered(dense, file)
    amounts = {"questions": len(full), "steps": steps, "epochs": epochs, "pictures": pictures}
    report: dict[str, Any] = {**amounts, "rows": [row("dense", 1.0, 4 * QUARTER, full, full, file)]}
    for name, recipe in ways(dense).items():
        part, ratio = part_of(dense, name, recipe, work)
        for title, one in ((name, part), (f"{name}, taught", taught(part, alone, epochs))):
            if one is None:
                continue
            for positions in POSITIONS:
                renumbered = positions != POSITIONS[0]
                whole = one.with_name(f"{one.name}-whole{'-renumbered' * renumbered}")
                told = export_hf(one, whole, positions=positions, overwrite=True)
                own = f"{title}{', renumbered' * renumbered}"
                report["rows"].append(row(own, ratio, told["image_tokens"], answered(whole, file), full, file))
                click.echo(table(report).splitlines()[-1], err=True)
                out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
                if told["image_tokens"] == told["dense_tokens"]:
                    break
    click.echo(table(report))


if __name__ == "__main__":
    main()
