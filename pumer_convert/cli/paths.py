"""What a path may be on the command line."""

from pathlib import Path
from typing import Any

import click


class AnyPath(click.Path):
    """A path that need not exist. An empty word is none: it would be the working directory, which nobody meant who
    left a variable unset."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        if value == "":
            self.fail("it is empty; name a file or folder ('.' is this one).", param, ctx)
        return super().convert(value, param, ctx)


PATH = AnyPath()
