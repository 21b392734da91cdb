"""The README: what it shows is what happens, it is short, and the tools that it and its like name are there."""

import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from pumer_convert.cli import VERBS, cli
from pumer_convert.demo import RECIPE

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("tools/*/README.md"))]
LONGEST = 150
MEASURED = re.compile(r"verified: |wrote .*\.engine \(")
"""Lines whose numbers are sizes, versions and rounding errors."""
SCORE = re.compile(r" *[\d.]+%  ")
NUMBER = re.compile(r"\d+(?:\.\d+)*(?:e[-+]\d+)?")


def blocks(file: Path) -> Iterator[list[str]]:
    """The indented blocks of a page, without their indentation."""
    found: list[str] = []
    for line in [*file.read_text("utf-8").splitlines(), "end"]:
        if line.startswith("    ") or (found and not line):
            found.append(line[4:])
        elif found:
            yield "\n".join(found).strip().splitlines()
            found = []


def commands(file: Path) -> Iterator[tuple[list[str], list[str]]]:
    """The words of every `$ pumer-convert` line, and the output that is shown below it."""
    for block in blocks(file):
        starts = [i for i, line in enumerate(block) if line.startswith("$ ")]
        for start, end in pairwise([*starts, len(block)]):
            if block[start].startswith("$ pumer-convert "):
                yield shlex.split(block[start])[2:], block[start + 1 : end]


def python() -> str:
    (found,) = ["\n".join(block) for block in blocks(README) if block[0].startswith("import pumer_convert")]
    return found


def same(shown: str, seen: str) -> bool:
    """Whether two lines say the same: of sizes and rounding errors the words alone, of scores to half a point."""
    if MEASURED.match(shown):
        return NUMBER.sub("#", shown) == NUMBER.sub("#", seen)
    if SCORE.match(shown) and SCORE.match(seen):
        (one, label), (other, found) = (line.strip().split("%  ") for line in (shown, seen))
        return label == found and abs(float(one) - float(other)) < 0.5
    return shown == seen


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="it builds an engine of TensorRT-RTX")
def test_its_commands_and_its_python_do_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for words, shown in commands(README):
        found = CliRunner().invoke(cli, words, catch_exceptions=False)
        assert found.exit_code == 0, found.output
        seen = found.stdout.rstrip().splitlines()
        if shown:
            assert len(seen) == len(shown), found.stdout
            assert [(one, other) for one, other in zip(shown, seen, strict=True) if not same(one, other)] == []
    here, there = (np.asarray(Image.open(file)) for file in ("left.png", ROOT / "docs/left-over.png"))
    assert here.shape == there.shape
    assert (here != there).mean() < 0.05, "near-ties may fall either way"
    capsys.readouterr()
    exec(compile(python(), README, "exec"), {})
    printed = re.search(r"# (red \d+%);", python())
    assert printed is not None
    assert capsys.readouterr().out.strip() == printed[1]


def test_numbers_that_are_measured_may_differ_and_no_others() -> None:
    engine = "wrote a/model.engine (21.7 MB, tensorrt-rtx 1.7.1.116)"
    assert same(engine, "wrote a/model.engine (20.9 MB, tensorrt-rtx 1.8.0.1)")
    assert not same(engine, "wrote b/model.engine (21.7 MB, tensorrt-rtx 1.7.1.116)")
    assert same(" 51.38%  yes", " 51.02%  yes")
    assert not same(" 51.38%  yes", " 52.38%  yes")
    assert not same(" 51.38%  yes", " 51.38%  no")
    assert not same("encoder.1   145 -> 87", "encoder.1   145 -> 86")


def test_it_runs_every_kind_of_command_that_it_is_about() -> None:
    verbs = [words[0] for words, _ in commands(README)]
    assert verbs[:4] == ["demo", "apply", "export", "run"]
    assert all(shown for words, shown in commands(README) if words[0] in verbs[:4])
    assert {"distill", "evaluate", "show"} < set(verbs)


def test_it_is_short_and_says_how_to_test() -> None:
    lines = README.read_text("utf-8").splitlines()
    assert len(lines) <= LONGEST
    assert lines.count("    bash tools/test.sh") == lines.count("    bash tools/demo.sh") == 1
    assert (ROOT / "docs/left-over.png").stat().st_size < 60_000


def test_its_recipe_is_the_demos() -> None:
    (shown,) = ["\n".join(block) for block in blocks(README) if block[0].startswith("recipe: 1")]
    assert yaml.safe_load(shown) == yaml.safe_load(RECIPE.read_text("utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_tools_and_pages_that_it_names_are_there(page: Path) -> None:
    text = page.read_text("utf-8")
    named = re.findall(r"\b(?:python|bash)\s+(tools/[\w./-]+\.(?:py|sh))", text)
    assert [name for name in named if not (ROOT / name).is_file()] == []
    links = [link for link in re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", text) if not link[0].startswith("http")]
    assert [one or other for one, other in links if not (page.parent / (one or other)).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_and_options_that_it_names_are_there(page: Path) -> None:
    context = click.Context(cli)
    for words, _ in commands(page):
        assert words[0] in VERBS
        command: Any = cli.get_command(context, words[0])
        known = {name for parameter in command.params for name in parameter.opts}
        assert [word for word in words if re.match(r"--?[a-z]", word) and word not in known] == []


def test_tools_are_found_in_the_pages() -> None:
    named = {page: page.read_text("utf-8").count("python tools/") for page in PAGES}
    assert named[ROOT / "docs" / "serving.md"] > 1
    assert sum(named.values()) > 20
