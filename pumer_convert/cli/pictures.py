"""The option that the verbs have which take pictures."""

import click

from pumer_convert.image_processor.open_picture import MAX_PIXELS

max_pixels = click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=MAX_PIXELS,
    show_default=True,
    metavar="N",
    help="Refuse pictures of more pixels than that.",
)
