"""Recipes by name, and the verb that lists them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pumer_convert import cli
from pumer_convert.errors import InputError
from pumer_convert.recipe.schema import load_recipe
from pumer_convert.recipe.shipped import about, locate, shipped

RECIPES = Path(__file__).parents[2] / "recipes"


def test_every_recipe_of_the_checkout_ships() -> None:
    assert {name: file.read_text("utf-8") for name, file in shipped().items()} == {
        file.stem: file.read_text("utf-8") for file in RECIPES.glob("*.yaml")
    }


def test_a_file_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_recipe("meter-fast") == load_recipe(locate("meter-fast"))
    assert locate("meter-fast") == shipped()["meter-fast"]
    assert locate("meter-fast.yaml") == Path("meter-fast.yaml"), "a file that is not there"
    with pytest.raises(
        InputError, match=r"meter-fast\.yaml: there is no such recipe\. Did you mean 'meter-fast', which"
    ):
        load_recipe("meter-fast.yaml")
    Path("vilt").mkdir()
    assert locate("vilt") == shipped()["vilt"], "a checkpoint of that name"
    Path("meter-fast").write_text("mine")
    assert locate("meter-fast") == Path("meter-fast")
    for wrong, near in (("meter-fats", "meter-fast"), ("vlit", "vilt")):
        with pytest.raises(InputError, match=rf"{wrong}: there is no such recipe .*lists those.* '{near}'"):
            load_recipe(wrong)


def test_the_verb_lists_them() -> None:
    shown = CliRunner().invoke(cli.cli, ["recipes"], catch_exceptions=False)
    for name, file in shipped().items():
        assert f"{name}\n    {about(file)[0]}" in shown.output
    report = json.loads(CliRunner().invoke(cli.cli, ["recipes", "--json"], catch_exceptions=False).output)
    assert list(report) == list(shipped())
    assert report["vilt"]["model"] == "vilt"
