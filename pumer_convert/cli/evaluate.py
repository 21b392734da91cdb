"""pumer-convert evaluate."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pumer_convert.cli.help import Sectioned, option, section
from pumer_convert.cli.output import emit, progress
from pumer_convert.cli.paths import PATH
from pumer_convert.cli.shared_options import device, max_pixels, on_error, workers

if TYPE_CHECKING:
    from pumer_convert.evaluation.evaluate import Comparison, Evaluation

SHOWN = 10
"""Flips that a person is shown; --json and --flips have all."""


@click.command("evaluate", cls=Sectioned)
@click.argument("checkpoint", type=PATH)
@section(
    "The data",
    option("--data", required=True, type=PATH, help="A data set, in any readable format."),
    option("--images", type=PATH, help="Folder of the pictures, if not beside the data."),
    option("--split", help="train, val, test, ..., of data that hold several."),
    option("--limit", type=click.IntRange(min=1), help="Take only the first N samples."),
    on_error,
    max_pixels,
)
@section(
    "The measurement",
    option(
        "--task",
        metavar="TASK",
        help="Of two towers: retrieval (the default) or zero_shot; of a model that writes: vqa (the default) or pope.",
    ),
    option("--classes", type=PATH, help="Classes of zero_shot, a line each; lines with {} are templates."),
    option(
        "--against",
        type=PATH,
        metavar="DENSE",
        help="The dense checkpoint (default: what CHECKPOINT was reduced from, if it is still there).",
    ),
    option("--instruction", metavar="TEXT", help="What stands beside each question to a model that writes."),
    option("--max-new-tokens", type=click.IntRange(min=1), help="Of a written answer.  [default: 20]"),
    option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Examples of one pass."),
    option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the bootstrap."),
    device,
    workers,
)
@section(
    "Output",
    option("--flips", type=PATH, help="Write the examples that flipped here, as JSON lines."),
    option("--overwrite", is_flag=True, help="Replace an earlier file of --flips."),
    option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
)
def command(
    checkpoint: Path,
    task: str | None,
    classes: Path | None,
    against: Path | None,
    instruction: str | None,
    max_new_tokens: int | None,
    data: Path,
    images: Path | None,
    split: str | None,
    limit: int | None,
    batch_size: int,
    workers: int,
    device: str,
    seed: int,
    on_error: str,
    max_pixels: int,
    flips: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Measure CHECKPOINT, and its dense original on the same examples."""
    from pumer_convert.evaluation.evaluate import evaluate

    evaluation = evaluate(
        checkpoint,
        data,
        task=task,
        classes=classes,
        against=against,
        instruction=instruction,
        max_new_tokens=max_new_tokens,
        images=images,
        split=split,
        limit=limit,
        batch_size=batch_size,
        workers=workers,
        device=device,
        seed=seed,
        on_error=on_error,
        max_pixels=max_pixels,
        flips=flips,
        overwrite=overwrite,
        progress=progress,
    )
    emit(evaluation.to_json(), as_json, lambda: summary(evaluation))


def summary(evaluation: "Evaluation") -> str:
    """The evaluation for a person."""
    scores = {evaluation.checkpoint: evaluation.score}
    if evaluation.comparison is not None and evaluation.against is not None:
        scores = {evaluation.against: evaluation.comparison.dense, **scores}
    width = max(map(len, scores))
    lines = [f"{evaluation.task}, {evaluation.examples} examples on {evaluation.device}", ""]
    lines.append(f"{'checkpoint':<{width}}  {evaluation.metric:>12}  {'95% interval':>18}  examples/s")
    for name, score in scores.items():
        low, high = score.interval
        lines.append(
            f"{name:<{width}}  {score.value:>12.2%}  {low:>7.2%} .. {high:>7.2%}  {score.examples_per_second:>10.1f}"
        )
    if evaluation.score.parts:
        lines += ["", *(_parts(name, score.parts, width) for name, score in scores.items())]
    if len(evaluation.score.metrics) > 1:
        lines += ["", *(_metrics(name, score.metrics, width) for name, score in scores.items())]
    if evaluation.comparison is not None:
        lines += ["", *_comparison(evaluation.comparison)]
    lines += [f"skipped: {sentence}" for sentence in evaluation.skipped[:SHOWN]]
    if len(evaluation.skipped) > SHOWN:
        lines.append(f"skipped: {len(evaluation.skipped) - SHOWN} more")
    lines += [f"note: {note}" for note in evaluation.notes]
    return "\n".join(lines)


def _metrics(name: str, metrics: dict[str, float], width: int) -> str:
    return f"{name:<{width}}  " + "  ".join(f"{metric} {value:.2%}" for metric, value in metrics.items())


def _parts(name: str, parts: dict[str, float], width: int) -> str:
    return f"{name:<{width}}  " + ", ".join(f"{part} {1000 * it:.0f} ms" for part, it in parts.items()) + " an example"


def _comparison(comparison: "Comparison") -> list[str]:
    low, high = comparison.interval
    lines = [
        f"difference  {100 * comparison.difference:+.2f} points, 95% interval {100 * low:+.2f} .. {100 * high:+.2f}",
        f"speed       x{comparison.speedup:.2f}",
        f"agreement   {comparison.agreement:.2%}: {len(comparison.flips)} answers flipped, "
        f"{comparison.lost} to a worse one, {comparison.gained} to a better one",
    ]
    if comparison.flips:
        lines.append("")
    for flip in comparison.flips[:SHOWN]:
        lines.append(f"{flip.id}  {flip.question}  {flip.dense} -> {flip.reduced} (right: {flip.right})")
    if len(comparison.flips) > SHOWN:
        lines.append(f"and {len(comparison.flips) - SHOWN} more; --flips FILE writes all")
    return lines
