"""One sentence with the line for everything that a recipe may not say."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_recipe import HEAD, REFERENCE, reduce

from pumer_convert.errors import InputError
from pumer_convert.recipe.schema import Recipe, parse_recipe


def refusal(text: str, line: int) -> str:
    """What is wrong with `text`, which must be said in one sentence about `line`."""
    with pytest.raises(InputError) as caught:
        parse_recipe(text, "recipes/x.yaml")
    message = str(caught.value)
    start = f"recipes/x.yaml:{line}: "
    assert message.startswith(start)
    assert "\n" not in message
    assert message[-1] in ".?"
    return message.removeprefix(start)


@pytest.mark.parametrize(
    ("text", "line", "fragment"),
    [
        ("", 1, "the recipe is empty"),
        ("# nothing\n\n", 1, "the recipe is empty"),
        ("- recipe: 1\n", 1, "the recipe must be a mapping; its keys may be: recipe, model"),
        ("meter", 1, "the recipe must be a mapping"),
        ("[" * 2000, 1, "this is not valid YAML: it is nested too deeply"),
        ("model: meter\n", 1, "the recipe does not say 'recipe'; allowed: 1."),
        ("recipe: 2\nmodel: meter\n", 1, "recipe (the version of the format) cannot be '2'; allowed: 1."),
        ("recipe: 1\n", 1, "the recipe does not say 'model'; allowed: vilt, meter"),
        ("recipe: 1\nmodel:\n", 1, "the recipe does not say 'model'"),
        ("recipe: 1\nmodel: metre\n", 2, "model cannot be 'metre'; allowed: vilt, meter"),
        ("recipe: 1\nmodel: metre\n", 2, "Did you mean 'meter'?"),
        ("recipe: 1\nmodel: [meter]\n", 2, "model cannot be a list or mapping; allowed: vilt"),
        (REFERENCE + "proportional_attention: true\n", 4, "cannot be true under semantics: reference"),
    ],
)
def test_wrong_recipes(text: str, line: int, fragment: str) -> None:
    assert fragment in refusal(text, line)


@pytest.mark.parametrize(
    ("text", "line", "fragment"),
    [
        ("reduce: [", 4, "this is not valid YAML: while parsing a flow node"),
        ("\ttask: vqa", 3, "this is not valid YAML"),
        ("---\nrecipe: 1", 3, "this is not valid YAML"),
        ("task: *x", 3, "this is not valid YAML"),
        (
            "task: a\x01",
            3,
            "this is not valid YAML: it is nested too deeply or holds an impossible character",
        ),
        ("reduse: []", 3, "'reduse' is not a key of the recipe; allowed: recipe, model, task, semantics"),
        ("reduse: []", 3, "Did you mean 'reduce'?"),
        ("distill: [1]", 3, "distill must be a mapping; its keys may be: epochs, batch_size"),
        ("distill: {epoch: 3}", 3, "'epoch' is not a key of distill"),
        ("distill: {epoch: 3}", 3, "Did you mean 'epochs'?"),
        ("distill:\n  kd: 1\n  epochs: 0", 5, "distill.epochs cannot be '0'; allowed: a whole number from 1."),
        ("distill: {epochs: 1.5}", 3, "distill.epochs cannot be '1.5'; allowed: a whole number from 1."),
        ("distill: {epochs: [1]}", 3, "distill.epochs cannot be a list or mapping"),
        ("distill: {learning_rate: 0}", 3, "distill.learning_rate cannot be '0'; allowed: a number above 0."),
        ("distill: {kd: .nan}", 3, "distill.kd cannot be '.nan'; allowed: a number from 0."),
        ("distill: {kd: -1}", 3, "distill.kd cannot be '-1'"),
        ("distill: {warmup: 1}", 3, "distill.warmup cannot be '1'; allowed: a number from 0 to below 1."),
        ("distill: {amp: fp61}", 3, "distill.amp cannot be 'fp61'; allowed: no, bf16, fp16. Did you mean 'fp16'?"),
        ("distill: {augment: yes}", 3, "distill.augment must be a mapping; its keys may be: number, magnitude."),
        ("distill:\n  augment:\n    magnitude: 31", 5, "allowed: a whole number from 0 to 30."),
        ("task: vqa\nmodel: vilt", 4, "the recipe says 'model' again after line 2"),
        ("[a, b]: 1", 3, "'[...]' is not a key of the recipe"),
        ("<<: {task: vqa}", 3, "'<<' is not a key of the recipe"),
        ("task: vqa2", 3, "task cannot be 'vqa2'; allowed: vqa, nlvr2, ve, retrieval. Did you mean 'vqa'?"),
        ("semantics: refrence", 3, "semantics cannot be 'refrence'; allowed: default, reference"),
        ("image_size: 288x288", 3, "image_size cannot be '288x288'; allowed: a whole number from 1."),
        ("image_size: 0", 3, "image_size cannot be '0'; allowed: a whole number from 1."),
        ("image_size: [288, 288]", 3, "image_size cannot be a list or mapping; allowed: a whole number from 1."),
        ("proportional_attention: 1", 3, "proportional_attention cannot be '1'; allowed: true, false"),
        ("reduce: {at: fusion.0}", 3, "reduce must be a list"),
        ("export: float16", 3, "export must be a mapping; its keys may be: dtype, profiles"),
        ("export:\n  dtyp: float16", 4, "'dtyp' is not a key of export"),
        ("export: {dtype: fp16}", 3, "export.dtype cannot be 'fp16'; allowed: float32, float16, bfloat16"),
        ("export: {profiles: []}", 3, "export.profiles is empty"),
        ("export: {profiles: [[1, 2, 3]]}", 3, "a profile of export must be a mapping"),
        ("export: {profiles: [{batch: [1, 8]}]}", 3, "batch must be one number, or [min, opt, max]"),
        ("export: {profiles: [{batch: [1, 8, 4]}]}", 3, "with min <= opt <= max"),
        ("export: {profiles: [{batch: {min: 1}}]}", 3, "batch must be a list"),
        ("export: {profiles: [{batch: 0}]}", 3, "batch cannot be '0'; allowed: a whole number from 1"),
        (
            "export:\n  profiles:\n  - text: [1, 2, 3]",
            5,
            "text cannot be '1'; allowed: a whole number from 2",
        ),
    ],
)
def test_wrong_settings(text: str, line: int, fragment: str) -> None:
    assert fragment in refusal(HEAD + text + "\n", line)


def test_impossible_escapes() -> None:
    assert "this is not valid YAML" in refusal(HEAD + 'task: "\\UFFFFFFFF"\n', 1)


@pytest.mark.parametrize(
    ("step", "fragment"),
    [
        ("fusion.0", "a step of reduce must be a mapping; its keys may be: at, side, unmerge, prune, merge"),
        (
            "{at: fusion.0, prun: {}}",
            "'prun' is not a key of a step of reduce; allowed: at, side, unmerge, prune, merge.",
        ),
        ("{at: fusion.0, prun: {}}", "Did you mean 'prune'?"),
        ("{prune: {image: 0.1}}", "the step does not say 'at'"),
        ("{at: fusion.0}", "the step has neither 'prune' nor 'merge'"),
        ("{at: fusion.0, prune: 0.1}", "prune must be a mapping; its keys may be: image, by"),
        ("{at: fusion.0, prune: }", "prune must be a mapping"),
        ("{at: fusion.0, prune: {}}", "prune does not say of what; give it image."),
        ("{at: fusion.0, prune: {image: .1, image: .1}}", "prune says 'image' again after line 4"),
        (
            "{at: fusion.0, prune: {text: .1}}",
            "'text' is not a key of prune; allowed: image, by, codes, neighbors, spatial, contextual.",
        ),
        ("{at: fusion.0, prune: {text: .1}}", "The text is what asks, so it cannot be pruned; merge it"),
        ("{at: fusion.0, merge: {by: bsm}}", "merge does not say of what; give it image or text."),
        ("{at: fusion.0, merge: {image: .1, by: bms}}", "merge.by cannot be 'bms'; allowed: bsm"),
    ],
)
def test_wrong_steps(step: str, fragment: str) -> None:
    assert fragment in refusal(reduce(step), 4)


@pytest.mark.parametrize(
    ("at", "fragment"),
    [
        ("fusion", "at cannot be 'fusion'; allowed: name.number as in fusion.0, fusion.0-3 or fusion.0,2,5"),
        ("[fusion.2,5]", "at cannot be '5'; allowed: name.number"),
        ("{fusion: 0}", "at cannot be a list or mapping; allowed: name.number"),
        ("", "at cannot be ''"),
        ("[]", "at names no site"),
        ("fusion.3-0", "at has 3-0, which runs backwards; write 0-3"),
        ("fusion.0-99999999999", "at cannot be 'fusion.0-99999999999'"),
        ("[fusion.0-2, fusion.1]", "fusion.1 is already named by the step at line 4"),
    ],
)
def test_wrong_sites(at: str, fragment: str) -> None:
    assert fragment in refusal(reduce(f"{{at: {at}, prune: {{image: 0.1}}}}"), 4)


def test_two_steps_at_one_site() -> None:
    text = reduce(*(f"{{at: {at}, prune: {{image: 0.1}}}}" for at in ("fusion.0", "fusion.1-2", "fusion.2")))
    assert refusal(text, 6) == "fusion.2 is already named by the step at line 5."


@pytest.mark.parametrize(
    ("reducers", "fragment"),
    [
        ("prune: {image: 0.1}", "needs prune.image and merge.image above 0 at every step"),
        ("merge: {image: 0.1, text: 0.1}", "needs prune.image and merge.image"),
        ("prune: {image: 0.1}, merge: {text: 0.1}", "needs prune.image and merge.image"),
        ("prune: {image: 0}, merge: {image: 0.1}", "needs prune.image and merge.image"),
        ("prune: {image: 0.1}, merge: {image: {drop: 5}}", "takes only shares"),
        ("prune: {image: {keep: 5}}, merge: {image: 0.1}", "takes only shares"),
        ("prune: {image: 0.1}, merge: {image: 0.2}", "needs the same shares at every step"),
        ("prune: {image: 0.1}, merge: {image: 0.1, text: 0.1}", "differs from the step at line 5"),
    ],
)
def test_what_the_published_semantics_needs(reducers: str, fragment: str) -> None:
    first = "{at: fusion.0, prune: {image: 0.1}, merge: {image: 0.1}}"
    text = REFERENCE + f"reduce:\n  - {first}\n  - {{at: fusion.1, {reducers}}}\n"
    assert fragment in refusal(text, 6)


NOT_AMOUNTS = (
    *(
        "1",
        "1.0",
        "1.5",
        "100%",
        "3/2",
        "24",
        "-0.1",
        "-5%",
        ".nan",
        "nan",
        ".inf",
        "true",
        "yes",
        "''",
        "~",
        "[]",
    ),
    *("half", "0x1", "1_0", "0..1", "1/0", "'%'", "e", "1e-99999", "24.5 tokens", "-3 tokens", "few tokens"),
    *("{}", "{keep: 1, drop: 2}", "{share: 24 tokens}", "{share: {share: 0.1}}"),
)


@pytest.mark.parametrize("text", NOT_AMOUNTS)
@pytest.mark.parametrize(("op", "modality"), [("prune", "image"), ("merge", "image"), ("merge", "text")])
def test_wrong_amounts(text: str, op: str, modality: str) -> None:
    message = refusal(reduce(f"{{at: fusion.0, {op}: {{{modality}: {text}}}}}"), 4)
    assert message.startswith(f"{op}.{modality}")
    assert "a share from 0 to below 1" in message


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("{keep: 0}", "prune.image.keep cannot be '0'; allowed: a whole number from 1"),
        ("{keep: 0.5}", "prune.image.keep cannot be '0.5'; allowed: a whole number from 1"),
        ("{keep: 010}", "prune.image.keep cannot be '010'"),
        ("{keep: 99999999999}", "prune.image.keep cannot be"),
        ("{drop: -1}", "prune.image.drop cannot be '-1'; allowed: a whole number from 0"),
        ("{drop: true}", "prune.image.drop cannot be 'true'"),
        ("{kep: 1}", "'kep' is not a key of prune.image; allowed: share, drop, keep. Did you mean 'keep'?"),
        ("0.1234567", "prune.image cannot be as fine as '0.1234567'"),
    ],
)
def test_wrong_counts(text: str, fragment: str) -> None:
    assert fragment in refusal(reduce(f"{{at: fusion.0, prune: {{image: {text}}}}}"), 4)


@given(st.text(st.sampled_from(" \n\t:-,.[]{}&*!|>'\"%@#?01/reducatmgxy\\\x00é"), max_size=60))
def test_whatever_the_text_there_is_a_recipe_or_an_input_error(text: str) -> None:
    for start in ("", HEAD, HEAD + "reduce:\n", HEAD + "reduce: [{at: fusion.0, prune: {image: "):
        with contextlib.suppress(InputError):
            assert isinstance(parse_recipe(start + text), Recipe)
