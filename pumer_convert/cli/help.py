"""Help pages in sections, for verbs with many options."""

from collections.abc import Callable
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
OptionOf = Callable[[str], Decorator]
"""What `option` gives: the option of a section."""


class SectionOption(click.Option):
    """An option that knows the heading it stands under."""

    def __init__(self, names: list[str], *, section: str, **attributes: Any) -> None:
        super().__init__(names, **attributes)
        self.section = section


class Sectioned(click.Command):
    """A command whose help shows its options under headings; --help itself stands under the last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the sections in the order in which their first options were declared."""
        sections: dict[str, list[tuple[str, str]]] = {}
        heading = "Options"
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)) is not None:
                heading = parameter.section if isinstance(parameter, SectionOption) else heading
                sections.setdefault(heading, []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def option(*names: str, **attributes: Any) -> OptionOf:
    """An option, as `click.option` takes it, for `section`."""
    return lambda heading: click.option(*names, cls=SectionOption, section=heading, **attributes)


def section(heading: str, *options: OptionOf) -> Decorator:
    """Adds options to a command, under a heading of its help."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for of in reversed(options):
            command = of(heading)(command)
        return command

    return add
