"""pumer-convert run."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pumer_convert.cli.output import emit, progress
from pumer_convert.cli.paths import PATH
from pumer_convert.cli.shared_options import max_pixels
from pumer_convert.data.prompts import PLACE, filled
from pumer_convert.errors import InputError

if TYPE_CHECKING:
    from pumer_convert.runtime import Answer, Pipeline

TEXT_OR_LABEL = "say --text, or for a model of two towers --label: one of them, and not both."
SHOWN = 6
"""Numbers of an embedding that a person is shown."""


@click.command("run")
@click.argument("model", type=PATH)
@click.option("--image", "images", multiple=True, required=True, type=PATH, help="The picture; twice for a pair.")
@click.option(
    "--text",
    "texts",
    multiple=True,
    help="The question, statement or caption; for two towers (CLIP, SigLIP) a caption to choose from, several times.",
)
@click.option("--label", "labels", multiple=True, help="A label to choose from, several times; for two towers alone.")
@click.option("--template", metavar="TEXT", help="What each --label is put into, such as 'a photo of a {}'.")
@max_pixels("Options")
@click.option("--top", default=3, show_default=True, type=click.IntRange(1), help="How many answers to print.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda[:i]; for ONNX also tensorrt[-rtx].")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(
    model: Path,
    images: tuple[Path, ...],
    texts: tuple[str, ...],
    labels: tuple[str, ...],
    template: str | None,
    max_pixels: int,
    top: int,
    device: str,
    as_json: bool,
) -> None:
    """Answer a question about a picture with MODEL: a checkpoint folder, an ONNX file or an engine.

    A model of two towers (CLIP, SigLIP) chooses from labels or captions: a line has the score, the cosine of the two
    embeddings, and the text. Any of its exported files will do, the other is found beside it.

    A tower of pictures alone is given no text: a line has how each picture's embedding begins, --json all of it. Of the
    vision part of a language model (LLaVA, LLaVA-OneVision, PaliGemma, Gemma 3, InternVL, Idefics3, SmolVLM) it tells
    how many tokens of how many numbers a picture becomes, in how many tiles.
    """
    from pumer_convert.runtime import Pipeline

    if texts and labels:
        raise InputError(TEXT_OR_LABEL)
    if template is not None and not labels:
        raise InputError("--template is for --label; say --label as well.")
    template = PLACE if template is None else template
    pipeline = Pipeline(model, device=device, max_pixels=max_pixels)
    for note in pipeline.notes:
        progress(f"note: {note}")
    if pipeline.features:
        _features(pipeline, images, bool(texts or labels), as_json)
        return
    if not texts and not labels:
        _embedded(pipeline, images, as_json)
        return
    answer = (
        _chosen(pipeline, images, labels or texts, template) if pipeline.embeds else _answered(pipeline, images, texts)
    )
    if cut := pipeline.cut(filled(template, labels or texts)):
        progress(f"note: {cut}")
    report: dict[str, Any] = {**asdict(answer), "ranking": answer.ranking[:top]}
    columns = [f"{score:7.2%}" for _, score in answer.ranking]
    if answer.cosines is None:
        del report["cosines"]
    else:
        report["cosines"] = answer.cosines[:top]
        columns = [f"{column}  {cosine:7.4f}" for column, cosine in zip(columns, answer.cosines, strict=True)]
    lines = [f"{column}  {label}" for column, (label, _) in zip(columns, answer.ranking, strict=True)]
    emit(report, as_json, lambda: "\n".join(lines[:top]))


def _embedded(pipeline: "Pipeline", images: tuple[Path, ...], as_json: bool) -> None:
    if not pipeline.embeds or pipeline.compares:
        raise InputError(TEXT_OR_LABEL)
    rows = pipeline.embed_images(images)
    report = [{"image": str(image), "embedding": row.tolist()} for image, row in zip(images, rows, strict=True)]
    starts = [" ".join(f"{value:.4f}" for value in row[:SHOWN]) for row in rows]
    lines = [f"{image}: {rows.shape[1]} numbers, {start} ..." for image, start in zip(images, starts, strict=True)]
    emit({"embeddings": report}, as_json, lambda: "\n".join(lines))


def _features(pipeline: "Pipeline", images: tuple[Path, ...], asked: bool, as_json: bool) -> None:
    """Says what the pictures become."""
    if asked:
        raise InputError(
            f"{pipeline.path}: gives tokens for a language model to read, and answers nothing; leave --text and "
            "--label out."
        )
    found = [pipeline.embed_images([image]).shape for image in images]
    (name,), (_, tokens, width) = pipeline.runtime.signature.names, found[0]
    tiles = [shape[0] for shape in found]
    report = {"output": name, "images": [str(image) for image in images], "shape": [sum(tiles), tokens, width]}
    lines = [
        f"{name}: {'' if many == 1 else f'{many} tiles of '}{tokens} tokens of {width} numbers, {image}"
        for many, image in zip(tiles, images, strict=True)
    ]
    if sum(tiles) > len(tiles):
        report["tiles"] = tiles
    emit(report, as_json, lambda: "\n".join(lines))


def _answered(pipeline: "Pipeline", images: tuple[Path, ...], texts: tuple[str, ...]) -> "Answer":
    if len(texts) != 1:
        given = f"{len(texts)} times --text" if texts else "--label"
        raise InputError(f"{pipeline.path}: answers one question by its own labels; say --text once, not {given}.")
    return pipeline(images, texts[0])


def _chosen(pipeline: "Pipeline", images: tuple[Path, ...], labels: tuple[str, ...], template: str) -> "Answer":
    if len(images) != 1:
        raise InputError(f"{pipeline.path}: chooses for one picture; say --image once, not {len(images)} times.")
    return pipeline.classify(images[0], labels, template)
