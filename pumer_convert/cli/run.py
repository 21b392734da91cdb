"""pumer-convert run."""

from dataclasses import asdict
from pathlib import Path

import click

from pumer_convert.cli.output import emit, progress
from pumer_convert.cli.paths import PATH
from pumer_convert.cli.shared_options import max_pixels


@click.command("run")
@click.argument("model", type=PATH)
@click.option("--image", "images", multiple=True, required=True, type=PATH, help="The picture; twice for a pair.")
@click.option("--text", required=True, help="The question, statement or caption.")
@max_pixels("Options")
@click.option("--top", default=3, show_default=True, type=click.IntRange(1), help="How many answers to print.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda[:i]; for ONNX also tensorrt[-rtx].")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(
    model: Path, images: tuple[Path, ...], text: str, max_pixels: int, top: int, device: str, as_json: bool
) -> None:
    """Answer a question about a picture with MODEL: a checkpoint folder, an ONNX file or an engine."""
    from pumer_convert.runtime import Pipeline

    pipeline = Pipeline(model, device=device, max_pixels=max_pixels)
    for note in pipeline.notes:
        progress(f"note: {note}")
    answer = pipeline(images, text)
    if cut := pipeline.preprocessor.cut([text]):
        progress(f"note: {cut}")
    report = {**asdict(answer), "ranking": answer.ranking[:top]}
    emit(report, as_json, lambda: "\n".join(f"{score:7.2%}  {label}" for label, score in report["ranking"]))
