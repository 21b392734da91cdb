"""Help pages in sections, for verbs with many options."""

from collections.abc import Callable, Mapping
from typing import Any

import click
from click.core import ParameterSource

from pumer_convert.errors import InputError

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
OptionOf = Callable[..., Decorator]
"""What `option` gives: the option of a section, by its heading and the flag that it needs."""


class SectionOption(click.Option):
    """An option that knows the heading it stands under, the flag without which it would be for nothing, and, where it
    leaves the others without a meaning, those that may stand beside each of its values."""

    def __init__(
        self,
        names: list[str],
        *,
        section: str,
        needs: str | None = None,
        beside: Mapping[str, tuple[str, ...]] | None = None,
        **attributes: Any,
    ) -> None:
        super().__init__(names, **attributes)
        self.section, self.needs, self.beside = section, needs, beside


class Sectioned(click.Command):
    """A command whose help shows its options under headings; --help itself stands under the last. It refuses options
    that would be for nothing."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Raises InputError for an option without the flag that it needs, or beside one that it means nothing to."""
        rest = super().parse_args(ctx, args)
        flags = {name: parameter.name for parameter in self.params for name in parameter.opts}
        given = [
            parameter
            for parameter in self.params
            if isinstance(parameter, SectionOption)
            and ctx.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
        ]
        for parameter in given:
            name, needs, beside = parameter.opts[0], parameter.needs, parameter.beside
            if needs is not None and not ctx.params.get(str(flags[needs])):
                raise InputError(f"{name} is for {needs}; say {needs} as well.")
            if beside is None:
                continue
            value = ctx.params[str(parameter.name)]
            allowed = beside[value]
            idle = [one.opts[0] for one in given if one is not parameter and not {*one.opts} & {*allowed}]
            if idle:
                raise InputError(
                    f"{name} {value} takes {', '.join(allowed)} alone beside it; leave {', '.join(idle)} out."
                )
        return rest

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

    def of(heading: str, needs: str | None = None) -> Decorator:
        needed = None if needs in names else attributes.pop("needs", needs)
        return click.option(*names, cls=SectionOption, section=heading, needs=needed, **attributes)

    return of


def section(heading: str, *options: OptionOf, needs: str | None = None) -> Decorator:
    """Adds options to a command, under a heading of its help; `needs` is a flag of it that they are for."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for of in reversed(options):
            command = of(heading, needs)(command)
        return command

    return add
