"""Options of the verbs that take pictures and data."""

import click

from pumer_convert.cli.help import option
from pumer_convert.image_processor.open_picture import MAX_PIXELS

max_pixels = option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=MAX_PIXELS,
    show_default=True,
    metavar="N",
    help="Refuse pictures of more pixels than that.",
)

on_error = option(
    "--on-error",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    show_default=True,
    help="Stop at a sample that cannot be read, or leave it out.",
)
device = option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:i]", help="Where the model runs."
)
workers = option(
    "--workers", type=click.IntRange(min=0), default=0, show_default=True, help="Worker processes that decode images."
)
