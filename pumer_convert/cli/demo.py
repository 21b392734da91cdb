"""pumer-convert demo."""

import tempfile
from pathlib import Path
from typing import Any

import click

from pumer_convert.cli.output import emit
from pumer_convert.cli.paths import PATH
from pumer_convert.cli.progress import Bar
from pumer_convert.errors import InputError

STEPS, TEST = 100, 1000


@click.command("demo")
@click.option("-o", "--out", type=PATH, help="Keep the converted folder, with its picture, here.")
@click.option("--steps", type=click.IntRange(min=1), help=f"Steps of the distillation.  [default: {STEPS}]")
@click.option("--test", type=click.IntRange(min=4), help=f"Unseen questions to ask.  [default: {TEST}]")
@click.option(
    "--files",
    type=PATH,
    metavar="FOLDER",
    help="Run nothing: write the checkpoint, its recipe, pictures and questions here, to try the other commands on.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier folder of --files.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    out: Path | None, steps: int | None, test: int | None, files: Path | None, overwrite: bool, as_json: bool
) -> None:
    """Run plan, apply, distillation, evaluation, export, verification and, where TensorRT-RTX is installed, an engine.

    On an embedded ViLT of six layers that answers questions about drawn scenes of coloured shapes.
    """
    if files is not None:
        if (out, steps, test) != (None, None, None):
            raise InputError("--files runs nothing; -o, --steps and --test are for a run.")
        from pumer_convert.demo.files import write_files

        report = write_files(files, overwrite=overwrite)
        emit(report, as_json, lambda: _files_summary(files, report))
        return
    if overwrite:
        raise InputError("--overwrite is for the folder of --files.")
    from pumer_convert.demo.path import run_demo

    bar = Bar()
    with tempfile.TemporaryDirectory() as scratch:
        folder = out if out is not None else Path(scratch) / "demo-pumer"
        report = run_demo(folder, steps=steps or STEPS, test=test or TEST, progress=bar.line, watch=bar)
    emit(report, as_json, lambda: _table(report, kept=out is not None))


def _files_summary(folder: Path, report: dict[str, Any]) -> str:
    return (
        f"wrote {folder}: checkpoint, recipe.yaml, {report['pictures']} pictures, and scenes.jsonl with "
        f"{report['questions']} questions"
    )


def _table(report: dict[str, Any], *, kept: bool) -> str:
    plan, scores, check = report["plan"], report["evaluation"], report["verification"]
    first, last, engine = plan["rows"][0], plan["rows"][-1], report.get("engine")
    low, high = (100 * side for side in scores["interval"])
    engine_row = "none: pip install 'pumer-convert[rtx]' builds one"
    if engine:
        engine_row = f"{engine['bytes'] / 1e6:.1f} MB ({engine['flavour']} {engine['version']})"
    rows = [
        ("image tokens", f"{first['image_in']} -> {last['image_out']}"),
        ("text tokens", f"{first['text_in']} -> {last['text_out']} (of {plan['text_length']})"),
        ("MMACs per example", f"{plan['dense_macs'] / 1e6:.1f} -> {(plan['macs'] + plan['reducer_macs']) / 1e6:.1f}"),
        ("ratio of MACs", f"x{plan['ratio']:.2f}"),
        (
            "right answers",
            f"{scores['dense']:.1%} dense, {scores['reduced']:.1%} reduced, {scores['distilled']:.1%} distilled",
        ),
        ("difference", f"{100 * scores['difference']:+.1f} points, 95% interval {low:+.1f} to {high:+.1f}"),
        ("ONNX against eager", f"{check['logits_error']:.1e} ({report['dtype']}, {check['cases']} cases)"),
        ("engine", engine_row),
    ]
    if kept:
        rows.append(("what is left", report["picture"]))
    return "\n".join(f"{name:<20}{value}" for name, value in rows)
