"""The recipe: what it may say, the ones that come with the package, and their files."""

import dataclasses
import json
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pumer_convert.amount import Amount
from pumer_convert.errors import InputError
from pumer_convert.models.family import FAMILIES
from pumer_convert.recipe.schema import Action, ExportSettings, Profile, Recipe, StepSpec, load_recipe, parse_recipe
from pumer_convert.recipe.settings import Augment, DistillSettings
from pumer_convert.reducers import KINDS

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
PUBLISHED = {  # image and text tokens at the entry of every step and after the last (PuMer's configurations)
    "vilt-vqa": ([145, 87, 52, 31], [32, 26, 21, 17]),
    "vilt-ve": ([145, 87, 52, 31, 19], [40, 32, 26, 21, 17]),
    "vilt-nlvr2": ([145, 87, 52, 31], [40, 32, 26, 21]),
    "meter-vqa": ([577, 347, 209, 125, 75], [32, 26, 21, 17, 14]),
    "meter-ve": ([577, 203, 72, 26, 10], [40, 32, 26, 21, 17]),
    "meter-nlvr2": ([325, 114, 41, 15], [40, 32, 26, 21]),
}

HEAD = "recipe: 1\nmodel: meter\n"
REFERENCE = HEAD + "semantics: reference\n"


def reduce(*steps: str) -> str:
    """A recipe whose n-th step, a flow mapping, stands in line 3 + n."""
    return HEAD + "reduce:\n" + "".join(f"  - {step}\n" for step in steps)


def amount(text: str) -> Amount:
    (step,) = parse_recipe(reduce(f"{{at: fusion.0, prune: {{image: {text}}}}}")).steps
    return step.actions[0].amount


# What a recipe may say


def test_everything_a_recipe_may_say() -> None:
    text = """\
# a comment
recipe: 1
model: meter
task: vqa
semantics: default
proportional_attention: false
image_size: 288
reduce:
  - at: fusion.0-1
    merge: {text: 0.2, image: {keep: 120}, by: bsm}
    prune: {image: 20%, by: relevance}
  - at:
      - fusion.3
      - fusion.5
    merge: {image: 24 tokens, by: pitome}
  - at: vision.3
    merge: {image: {drop: 24}, by: pitome, margin: 0.75}
  - at: vision.4
    merge: {image: 0.2, by: tome}
export:
  dtype: bfloat16
  profiles:
    - {batch: [1, 2, 8], text: [4, 32, 50]}
    - {batch: 4}
"""
    assert parse_recipe(text, "a.yaml") == Recipe(
        model="meter",
        task="vqa",
        semantics="default",
        proportional_attention=False,
        steps=(
            StepSpec(
                ("fusion.0", "fusion.1"),
                (
                    Action("prune", "image", Amount(1, 5), "relevance"),
                    Action("merge", "image", Amount(keep=120), "bsm"),
                    Action("merge", "text", Amount(1, 5), "bsm"),
                ),
                line=9,
            ),
            StepSpec(
                ("fusion.3", "fusion.5"),
                (Action("merge", "image", Amount(drop=24), "pitome", {"margin": 0.9}),),
                line=12,
            ),
            StepSpec(("vision.3",), (Action("merge", "image", Amount(drop=24), "pitome", {"margin": 0.75}),), line=16),
            StepSpec(("vision.4",), (Action("merge", "image", Amount(1, 5), "tome"),), line=18),
        ),
        export=ExportSettings("bfloat16", (Profile((1, 2, 8), (4, 32, 50)), Profile((4, 4, 4), (4, 32, 40)))),
        text=text,
        path="a.yaml",
        image_size=288,
    )


def test_defaults() -> None:
    recipe = parse_recipe(HEAD)
    assert (recipe.model, recipe.task, recipe.semantics, recipe.steps) == ("meter", None, "default", ())
    assert recipe.proportional_attention
    assert recipe.export == ExportSettings("float32", (Profile((1, 1, 8), (4, 32, 40)),))
    assert (recipe.path, recipe.image_size) == ("<recipe>", None)
    assert not parse_recipe(REFERENCE).proportional_attention
    assert not parse_recipe(REFERENCE + "proportional_attention: false\n").proportional_attention
    (step,) = parse_recipe(reduce("{at: fusion.0, prune: {image: .1}, merge: {image: .1}}")).steps
    assert [action.by for action in step.actions] == [next(iter(KINDS["prune"])), next(iter(KINDS["merge"]))]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_named(family: str) -> None:
    assert parse_recipe(f"recipe: 1\nmodel: {family}\n").model == family


@pytest.mark.parametrize("reduction", ["", "reduce:\n", "reduce: []\n", "task:\nexport:\n"])
def test_empty_values_at_the_top_are_left_out(reduction: str) -> None:
    assert parse_recipe(HEAD + reduction).steps == ()


def test_settings_of_a_distillation() -> None:
    assert parse_recipe(HEAD).distill is None
    assert parse_recipe(HEAD + "distill: {}\n").distill == DistillSettings()
    text = "distill: {epochs: 5, learning_rate: 5.0e-6, kd: 2, clip:, amp: no, ema: .99, augment: {magnitude: 5}}\n"
    recipe = parse_recipe(HEAD + text)
    wanted = DistillSettings(epochs=5, learning_rate=5e-6, kd=2.0, ema=0.99, augment=Augment(2, 5))
    assert recipe.distill == wanted
    assert parse_recipe(yaml.safe_dump(recipe.to_json())).distill == wanted


def test_programs_give_settings_under_the_same_rules() -> None:
    with pytest.raises(InputError, match=r"^epochs cannot be 0; allowed: a whole number from 1\.$"):
        DistillSettings(epochs=0)
    with pytest.raises(InputError, match=r"augment\.magnitude cannot be 31"):
        Augment(magnitude=31)
    with pytest.raises(InputError, match="kd cannot be nan"):
        DistillSettings().replaced({"kd": float("nan")})
    assert DistillSettings(epochs=9).replaced({"epochs": None, "seed": 4}) == DistillSettings(epochs=9, seed=4)


@pytest.mark.parametrize(
    ("at", "numbers"),
    [
        ("fusion.0", [0]),
        ("fusion.0-3", [0, 1, 2, 3]),
        ('"fusion.2,5,8"', [2, 5, 8]),
        ('"fusion.0-1, 4, 6-7"', [0, 1, 4, 6, 7]),
        ("[fusion.4, fusion.1-2]", [4, 1, 2]),
        ("fusion.3-3", [3]),
    ],
)
def test_sites(at: str, numbers: list[int]) -> None:
    (step,) = parse_recipe(reduce(f"{{at: {at}, prune: {{image: 0.1}}}}")).steps
    assert step.sites == tuple(f"fusion.{number}" for number in numbers)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.1", Amount(1, 10)),
        (".1", Amount(1, 10)),
        ("1e-1", Amount(1, 10)),
        ('"0.1"', Amount(1, 10)),
        ("0.30000", Amount(3, 10)),
        ("20%", Amount(1, 5)),
        ("12.5 %", Amount(1, 8)),
        ("1/3", Amount(1, 3)),
        ("0", Amount()),
        ("0.0", Amount()),
        ("24 tokens", Amount(drop=24)),
        ("1 token", Amount(drop=1)),
        ("{share: 0.2}", Amount(1, 5)),
        ("{drop: 40}", Amount(drop=40)),
        ("{drop: 0}", Amount()),
        ("{keep: 120}", Amount(keep=120)),
    ],
)
def test_amounts(text: str, expected: Amount) -> None:
    assert amount(text) == expected


@given(st.integers(0, 999_999))
def test_shares_are_exact(millionths: int) -> None:
    share = Fraction(millionths, 1_000_000)
    expected = Amount(share.numerator, share.denominator)
    assert amount(f"0.{millionths:06}") == amount(f"{millionths}/1000000") == expected
    assert amount(f"{millionths // 10_000}.{millionths % 10_000:04}%") == expected


@given(st.integers(0, 100_000), st.fractions(0, 1, max_denominator=1_000_000))
def test_a_share_removes_what_python_would_round_to(length: int, share: Fraction) -> None:
    assert Amount(share.numerator, share.denominator).removed(length, length) == round(share * length)


@given(st.integers(0, 5000), st.integers(0, 5000))
def test_drop_and_keep(length: int, count: int) -> None:
    assert Amount(drop=count).removed(length, length) == count
    assert Amount(keep=count).removed(length, length) == max(0, length - count)


def test_amounts_in_words() -> None:
    amounts = (amount("20%"), amount("24 tokens"), amount("{keep: 120}"), amount("{drop: 0}"))
    assert [str(a) for a in amounts] == ["20%", "drop 24", "keep 120", "0%"]
    assert [a.is_nothing for a in amounts] == [False, False, False, True]


def test_anchors() -> None:
    text = reduce("{at: fusion.0, prune: &p {image: 0.1}}", "{at: fusion.1, prune: *p}")
    first, second = parse_recipe(text).steps
    assert first.actions == second.actions
    assert (first.line, second.line) == (4, 5)


# The recipes that come with the package


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_the_package_reads(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.steps
    assert recipe.text == path.read_text(encoding="utf-8")
    assert recipe.text.startswith("# ")
    assert path.stem.split("-")[0] == recipe.model
    assert (recipe.semantics == "reference") == (path.stem in PUBLISHED)
    assert "-".join(filter(None, (recipe.model, recipe.task))) == re.sub("(-large)?(-fast(er)?)?$", "", path.stem)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipes_give_the_published_token_counts(name: str) -> None:
    (path,) = (path for path in RECIPES if path.stem == name)
    expected = PUBLISHED[name]
    images, texts = [expected[0][0]], [expected[1][0]]
    for step in load_recipe(path).steps:
        for _ in step.sites:
            entry = {"image": images[-1], "text": texts[-1]}
            now = dict(entry)
            for action in step.actions:
                current = now[action.modality]
                room = (current - 1) // (2 if action.op == "merge" else 1)
                now[action.modality] -= min(action.amount.removed(entry[action.modality], current), room)
            images.append(now["image"])
            texts.append(now["text"])
    assert (images, texts) == expected


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_json_means_the_same_as_the_recipe(path: Path) -> None:
    recipe = load_recipe(path)
    filled = json.loads(json.dumps(recipe.to_json()))
    again = parse_recipe(yaml.safe_dump(filled, sort_keys=False))

    def meaning(recipe: Recipe) -> Recipe:
        steps = tuple(dataclasses.replace(step, line=0) for step in recipe.steps)
        return dataclasses.replace(recipe, steps=steps, text="", path="")

    assert meaning(again) == meaning(recipe)
    assert again.to_json() == recipe.to_json()


@given(
    st.one_of(
        st.fractions(0, 1, max_denominator=1000).map(Amount.share),
        st.integers(1, 5000).map(lambda count: Amount(drop=count)),
        st.integers(1, 5000).map(lambda count: Amount(keep=count)),
    )
)
def test_amounts_go_through_json(amount: Amount) -> None:
    assert Amount.from_json(json.loads(json.dumps(amount.to_json()))) == amount


# Files


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "meter.yaml").write_text(HEAD)
    with pytest.raises(InputError, match=r"metr\.yaml: there is no such recipe\. Did you mean 'meter\.yaml'\?"):
        load_recipe(tmp_path / "metr.yaml")
    with pytest.raises(InputError, match="there is no such recipe"):
        load_recipe(tmp_path / "nowhere" / "meter.yaml")


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_recipe(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        load_recipe("a\0b")
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(HEAD.encode() + "# é\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.yaml:3: the recipe is not UTF-8 text"):
        load_recipe(latin)


def test_the_text_is_kept_word_for_word(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbf" + HEAD.replace("\n", "\r\n").encode() + "# é\r\n".encode()
    (tmp_path / "a.yaml").write_bytes(data)
    recipe = load_recipe(str(tmp_path / "a.yaml"))
    assert recipe.text.encode() == data
    assert recipe.model == "meter"


def test_reading_a_recipe_does_not_need_torch() -> None:
    code = "import sys, pumer_convert.recipe.schema; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_error_names_the_line() -> None:
    error = parse_recipe(HEAD, "recipes/x.yaml").error(12, "there is no site fusion.9.")
    assert isinstance(error, InputError)
    assert str(error) == "recipes/x.yaml:12: there is no site fusion.9."
