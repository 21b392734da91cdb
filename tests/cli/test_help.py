"""The help pages: long ones in sections, every option told of once, in words of its own."""

import re

import click
import pytest
from click.testing import CliRunner

from pumer_convert.cli import VERBS, cli
from pumer_convert.cli.help import Sectioned, SectionOption
from pumer_convert.errors import InputError

LONG = 10
"""Options from which on a verb has sections."""


def command_of(verb: str) -> click.Command:
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    return command


def page(verb: str, flag: str = "--help") -> str:
    result = CliRunner().invoke(cli, [verb, flag], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_stands_once_and_under_one_heading(verb: str) -> None:
    text = page(verb)
    assert page(verb, "-h") == text
    sections = re.split(r"^(?=\S.*:$)", text, flags=re.MULTILINE)[1:]
    command = command_of(verb)
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    for names in [*(option.opts for option in options), ["-h", "--help"]]:
        start = re.compile(rf"^  {re.escape(', '.join(names))}(?!\S)", re.MULTILINE)
        assert sum(len(start.findall(section)) for section in sections) == 1, names
    assert all(option.help for option in options)
    if len(options) <= LONG:
        assert not isinstance(command, Sectioned)
        assert [section.splitlines()[0] for section in sections] == ["Options:"]
        return
    assert isinstance(command, Sectioned)
    headings = list(dict.fromkeys(option.section for option in options if isinstance(option, SectionOption)))
    assert [section.splitlines()[0] for section in sections] == [f"{heading}:" for heading in headings]
    assert headings[-1] == "Output"
    assert len(headings) > 2
    for option in options:
        assert isinstance(option, SectionOption), option.name
        assert f"  {', '.join(option.opts)}" in sections[headings.index(option.section)]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["export", "x", "--profile", "1:1:8,4:32:40"], "--profile is for --trt; say --trt as well"),
        (["quantize", "x", "--data", "x", "--strip-weights"], "--strip-weights is for --trt"),
        (["apply", "x", "--recipe", "x", "--data", "x"], "--data is for --distill; say --distill as well"),
        (["apply", "x", "--recipe", "x", "--split", "val"], "--split is for --distill"),
        (["export", "x", "--triton-backend", "python"], "--triton-backend is for --triton; say --triton as well"),
    ],
)
def test_an_option_that_would_be_for_nothing_is_refused(words: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        cli.main(words, standalone_mode=False)
