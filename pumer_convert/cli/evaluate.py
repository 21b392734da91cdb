"""pumer-convert evaluate."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pumer_convert.cli.output import emit, progress
from pumer_convert.cli.paths import PATH
from pumer_convert.cli.pictures import max_pixels

if TYPE_CHECKING:
    from pumer_convert.evaluation.evaluate import Comparison, Evaluation

SHOWN = 10
"""Flips that a person is shown; --json and --flips have all."""


@click.command("evaluate")
@click.argument("checkpoint", type=PATH)
@click.option(
    "--against",
    type=PATH,
    metavar="DENSE",
    help="The dense checkpoint (default: what CHECKPOINT was reduced from, if it is still there).",
)
@click.option("--data", required=True, type=PATH, help="A data set, in any readable format.")
@click.option("--images", type=PATH, help="Folder of the pictures, if not beside the data.")
@click.option("--split", help="train, val, test, ..., of data that hold several.")
@click.option("--limit", type=click.IntRange(min=1), help="Take only the first N samples.")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True)
@click.option(
    "--workers", type=click.IntRange(min=0), default=0, show_default=True, help="Worker processes that decode images."
)
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:i]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the bootstrap.")
@click.option("--on-error", type=click.Choice(["raise", "skip"]), default="raise", show_default=True)
@max_pixels
@click.option("--flips", type=PATH, help="Write the examples that flipped here, as JSON lines.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier file of --flips.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    checkpoint: Path,
    against: Path | None,
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

    found = evaluate(
        checkpoint,
        data,
        against=against,
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
    emit(found.to_json(), as_json, lambda: words(found))


def words(found: "Evaluation") -> str:
    """The evaluation for a person."""
    scores = {found.checkpoint: found.score}
    if found.comparison is not None and found.against is not None:
        scores = {found.against: found.comparison.dense, **scores}
    width = max(map(len, scores))
    lines = [f"{found.task}, {found.examples} examples on {found.device}", ""]
    lines.append(f"{'checkpoint':<{width}}  {found.metric:>12}  {'95% interval':>18}  examples/s")
    for name, score in scores.items():
        low, high = score.interval
        lines.append(
            f"{name:<{width}}  {score.value:>12.2%}  {low:>7.2%} .. {high:>7.2%}  {score.examples_per_second:>10.1f}"
        )
    if len(found.score.metrics) > 1:
        lines += ["", *(_metrics(name, score.metrics, width) for name, score in scores.items())]
    if found.comparison is not None:
        lines += ["", *_comparison(found.comparison)]
    lines += [f"skipped: {sentence}" for sentence in found.skipped[:SHOWN]]
    if len(found.skipped) > SHOWN:
        lines.append(f"skipped: {len(found.skipped) - SHOWN} more")
    lines += [f"note: {note}" for note in found.notes]
    return "\n".join(lines)


def _metrics(name: str, metrics: dict[str, float], width: int) -> str:
    return f"{name:<{width}}  " + "  ".join(f"{metric} {value:.2%}" for metric, value in metrics.items())


def _comparison(found: "Comparison") -> list[str]:
    low, high = found.interval
    lines = [
        f"difference  {100 * found.difference:+.2f} points, 95% interval {100 * low:+.2f} .. {100 * high:+.2f}",
        f"speed       x{found.speedup:.2f}",
        f"agreement   {found.agreement:.2%}: {len(found.flips)} answers flipped, {found.lost} to a worse one, "
        f"{found.gained} to a better one",
    ]
    if found.flips:
        lines.append("")
    for flip in found.flips[:SHOWN]:
        lines.append(f"{flip.id}  {flip.question}  {flip.dense} -> {flip.reduced} (right: {flip.right})")
    if len(found.flips) > SHOWN:
        lines.append(f"and {len(found.flips) - SHOWN} more; --flips FILE writes all")
    return lines
