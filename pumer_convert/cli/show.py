"""pumer-convert show."""

from pathlib import Path

import click

from pumer_convert.cli.output import emit
from pumer_convert.cli.paths import PATH
from pumer_convert.cli.shared_options import max_pixels


@click.command("show")
@click.argument("checkpoint", type=PATH)
@click.option("--image", "images", multiple=True, required=True, type=PATH, help="The picture; twice for a pair.")
@click.option("--text", help="The question, statement or caption; none for towers and vision parts.")
@max_pixels("Options")
@click.option("-o", "--out", required=True, type=PATH, metavar="PNG", help="Picture to draw.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier picture.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    checkpoint: Path,
    images: tuple[Path, ...],
    text: str | None,
    max_pixels: int,
    out: Path,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Draw what is left of a picture in the last layer of CHECKPOINT when it is asked TEXT.

    Pruned patches are dark, merged ones share their mean colour. Models that read pictures without a text (CLIP,
    SigLIP, DINOv2, the vision parts of language models) take none; of a picture in tiles each is drawn. Tokens that
    merged and came back at their places (unmerge) look as if nothing had happened.
    """
    from pumer_convert.visualize.visualize import show

    report = show(checkpoint, images, text, out, overwrite=overwrite, max_pixels=max_pixels)

    def human() -> str:
        image, image_left = report["image_tokens"]
        pruned = " and ".join(map(str, report["pruned"]))
        lines = [f"image tokens {image} -> {image_left}; {pruned} of {report['patches']} patches were pruned"]
        if "answer" in report:
            tokens, tokens_left = report["text_tokens"]
            lines[0] = lines[0].replace(";", f", text tokens {tokens} -> {tokens_left};")
            lines.insert(0, f"{report['answer']} ({report['score']:.2%})")
        return "\n".join([*lines, f"wrote {report['out']}", *(f"note: {note}" for note in report["notes"])])

    emit(report, as_json, human)
