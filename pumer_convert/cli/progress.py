"""How a training goes, on standard error: a live line on a terminal, a line every few seconds elsewhere."""

import shutil
import sys
import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pumer_convert.training.metrics import Status

SECONDS = 10
"""Between two lines where there is no terminal."""
LONGEST, SHORTEST = 24, 5
"""Of the bar itself, in characters."""


class Bar:
    """Shows each status it hears of; `line` puts a sentence above the bar."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self.shown, self.last = "", -float(SECONDS)

    def __call__(self, status: "Status") -> None:
        """Show a status, if it is time to."""
        now, over = time.monotonic(), status.step == status.steps
        if not over and now - self.last < (0.1 if self.live else SECONDS):
            return
        self.last = now
        if not self.live:
            click.echo(sentence(status), err=True)
            return
        text = drawn(status, shutil.get_terminal_size().columns - 1)
        click.echo("\r" + text.ljust(len(self.shown)), err=True, nl=over)
        self.shown = "" if over else text

    def line(self, sentence: str) -> None:
        """A sentence of its own."""
        if self.shown:
            click.echo("\r" + " " * len(self.shown) + "\r", err=True, nl=False)
            self.shown = ""
        click.echo(sentence, err=True)


def drawn(status: "Status", columns: int) -> str:
    """The bar and the words, as far as there is room; the words go first."""
    text = sentence(status)
    width = min(columns - len(text) - 3, LONGEST)
    if width < SHORTEST:
        return text[:columns]
    return f"[{'=' * (width * status.step // status.steps):<{width}}] {text}"


def sentence(status: "Status") -> str:
    """The status for a person: "step 20/300, loss 1.204, accuracy 61.2%, 35.1 examples/s, 2:14 left"."""
    parts = [f"step {status.step}/{status.steps}"]
    if status.loss is not None and status.accuracy is not None:
        parts += [f"loss {status.loss:.4g}", f"{status.metric} {status.accuracy:.1%}"]
    left = round(status.seconds_left)
    clock = f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}" if left >= 3600 else f"{left // 60}:{left % 60:02}"
    return ", ".join([*parts, f"{status.examples_per_second:.1f} examples/s", f"{clock} left"])
