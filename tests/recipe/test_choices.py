"""Keys of a recipe that not every family has: each belongs to a family, which says what they may be."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.demo import CHECKPOINT
from pumer_convert.errors import InputError
from pumer_convert.models.family import FAMILIES, family_of
from pumer_convert.recipe.schema import parse_recipe

CHOICES = {
    (key, word)
    for family in FAMILIES
    for key, words in family_of(family).choices.items()
    for word in words
    if word is not None
}


def text(family: str, *lines: str) -> str:
    return "\n".join(["recipe: 1", f"model: {family}", *lines, ""])


def test_there_are_some() -> None:
    assert {("fit", "squash"), ("links", "reduce"), ("links", "pool")} <= CHOICES


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("key", "word"), sorted(CHOICES))
def test_a_choice_is_taken_by_the_families_that_have_it_alone(family: str, key: str, word: str) -> None:
    line = f"{key}: {word}"
    if word in family_of(family).choices.get(key, ()):
        recipe = parse_recipe(text(family, line))
        assert recipe.choices[key] == word
        assert parse_recipe(yaml.safe_dump(recipe.to_json())).choices == recipe.choices
        return
    having = " and ".join(name for name in FAMILIES if key in family_of(name).choices)
    with pytest.raises(InputError, match=f"x.yaml:3: {key}: {family} has no such choice, {having} alone; remove"):
        parse_recipe(text(family, line), "x.yaml")


@pytest.mark.parametrize("family", FAMILIES)
def test_what_holds_where_nothing_is_said(family: str) -> None:
    recipe = parse_recipe(text(family))
    assert recipe.choices == {key: words[0] for key, words in family_of(family).choices.items()}
    assert parse_recipe(yaml.safe_dump(recipe.to_json())).choices == recipe.choices


def test_another_word_is_refused_by_the_line() -> None:
    with pytest.raises(InputError, match=r"x\.yaml:3: links cannot be 'pol'; allowed: reduce, pool\. Did you mean 'po"):
        parse_recipe(text("bridgetower", "links: pol"), "x.yaml")
    with pytest.raises(InputError, match=r"x\.yaml:3: fit cannot be 'crop'; allowed: squash\."):
        parse_recipe(text("vilt", "fit: crop"), "x.yaml")


def test_a_folder_with_a_choice_of_another_family_is_refused(tmp_path: Path) -> None:
    shutil.copytree(CHECKPOINT, tmp_path / "dense")
    file = tmp_path / "dense" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"pumer": {"version": 1, "edits": [], "links": "pool"}}))
    with pytest.raises(InputError, match=r"pumer\.links in its config is not known; apply the recipe once more"):
        open_checkpoint(tmp_path / "dense")
    file.write_text(json.dumps(config | {"pumer": {"version": 1, "edits": [], "fit": "crop"}}))
    with pytest.raises(InputError, match=r"pumer\.fit in its config is 'crop', not one of squash; apply the recipe"):
        open_checkpoint(tmp_path / "dense")
