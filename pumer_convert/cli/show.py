"""pumer-convert show."""

from pathlib import Path

import click

from pumer_convert.cli.output import emit
from pumer_convert.cli.paths import PATH
from pumer_convert.cli.shared_options import max_pixels


@click.command("show")
@click.argument("checkpoint", type=PATH)
@click.option("--image", "images", multiple=True, required=True, type=PATH, help="The picture; twice for a pair.")
@click.option("--text", required=True, help="The question, statement or caption.")
@max_pixels("Options")
@click.option("-o", "--out", required=True, type=PATH, metavar="PNG", help="Picture to draw.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier picture.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    checkpoint: Path,
    images: tuple[Path, ...],
    text: str,
    max_pixels: int,
    out: Path,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Draw what is left of a picture in the last layer of CHECKPOINT when it is asked TEXT.

    Pruned patches are dark, merged ones share their mean colour.
    """
    from pumer_convert.visualize.visualize import show

    report = show(checkpoint, images, text, out, overwrite=overwrite, max_pixels=max_pixels)

    def human() -> str:
        (image, image_left), (tokens, tokens_left) = report["image_tokens"], report["text_tokens"]
        pruned = " and ".join(map(str, report["pruned"]))
        return (
            f"{report['answer']} ({report['score']:.2%})\n"
            f"image tokens {image} -> {image_left}, text tokens {tokens} -> {tokens_left}; "
            f"{pruned} of {report['patches']} patches were pruned\nwrote {report['out']}"
            + "".join(f"\nnote: {note}" for note in report["notes"])
        )

    emit(report, as_json, human)
