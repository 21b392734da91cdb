"""On which side of LLaVA's projector tokens are reduced: what is compared there, what it costs, and what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_llava
import torch
from tiny_clip import edit
from transformers import LlavaForConditionalGeneration

from pumer_convert.amount import Amount
from pumer_convert.convert.apply import apply, prepare_apply
from pumer_convert.convert.inspect import inspect
from pumer_convert.convert.load import load
from pumer_convert.convert.plan import Plan, edits_of, make_plan
from pumer_convert.errors import InputError
from pumer_convert.export.folder import export_folder
from pumer_convert.export.tensorrt import EngineSettings
from pumer_convert.models.family import family_of
from pumer_convert.recipe.schema import parse_recipe
from pumer_convert.reducers import KINDS, SIDES
from pumer_convert.reducers.base import Guide
from pumer_convert.tokens import Tokens


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def pixels() -> torch.Tensor:
    return torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(1))


def recipe(by: str, side: str | None = None, keep: int = 9, at: str = "projector") -> str:
    told = "" if side is None else f", side: {side}"
    step = f"{{at: {at}{told}, prune: {{image: {{keep: {keep}}}, by: {by}}}}}"
    return f"recipe: 1\nmodel: llava\nreduce:\n  - {step}\n"


def reduced(folder: Path, text: str) -> Path:
    (folder.parent / "r.yaml").write_text(text)
    apply(folder, folder.parent / "r.yaml", folder.parent / "out", overwrite=True)
    return folder.parent / "out"


def found(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """What the projector lets through, and what was decided there."""
    output = load(path)(pixels())
    return output.outputs["image_features"], output.trace.taken["projector/prune.image"]


@pytest.mark.parametrize("by", ["divprune", "cdpruner"])
def test_what_is_compared_stands_on_that_side(by: str, tmp_path: Path) -> None:
    folder = tiny_llava.write(tmp_path / "dense")
    model = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    states = model.model.vision_tower(pixels(), output_hidden_states=True).hidden_states[-2][:, 1:]
    embeddings = torch.stack(list(model.get_image_features(pixel_values=pixels()).pooler_output))
    decided = []
    for side, compared in zip(SIDES, (states, embeddings), strict=True):
        features, kept = found(reduced(folder, recipe(by, side)))
        alone = Tokens.start(embeddings, torch.ones(3, 36, dtype=torch.bool)).with_keys(compared)
        expected = KINDS["prune"][by].load()(Amount(keep=9))(alone, Guide(alone.mask))
        assert torch.equal(kept, expected.decision)
        torch.testing.assert_close(features, expected.tokens.states, atol=1e-5, rtol=1e-5)
        decided.append(kept)
    assert not torch.equal(*decided)
    assert torch.equal(found(reduced(folder, recipe(by)))[1], decided[1]), "after it by themselves"


@pytest.mark.parametrize("by", ["cls_attention", "uniform", "prumerge", "visionzip"])
def test_the_others_stand_before_it_by_themselves(by: str, tmp_path: Path) -> None:
    folder = tiny_llava.write(tmp_path / "dense")
    own, before, after = (found(reduced(folder, recipe(by, side))) for side in (None, *SIDES))
    assert torch.equal(own[0], before[0])
    assert torch.equal(own[1], after[1]), "their choice does not depend on it"
    assert torch.allclose(own[0], after[0], atol=1e-5) == (by in ("cls_attention", "uniform")), "others leave sums"


def plan_of(by: str, side: str | None) -> Plan:
    """Of a LLaVA-1.5-7B."""
    family = family_of("llava")
    spec = family.spec(family.checked({"model_type": "llava", "text_config": {"model_type": "llama"}}, "here"))
    return make_plan(spec, edits_of(parse_recipe(recipe(by, side, keep=144)), spec), 64)


EACH = 1024 * 4096 + 4096 * 4096
"""Multiply-accumulates of the projector for one token."""


@pytest.mark.parametrize(
    ("by", "before", "after"),
    [
        ("uniform", 0, 0),
        ("divprune", 576 * 576 * 1024 + 144 * 576, 576 * 576 * 4096 + 144 * 576),
        ("cdpruner", 576 * 576 * 1024 + 144 * 576 * 145, 576 * 576 * 4096 + 144 * 576 * 145),
        (
            "prumerge",
            577 * 1024 * 1024 + 576 * 1024 + 576 * 576 * 64 + 144 * 576 * 1024,
            577 * 1024 * 1024 + 576 * 1024 + 576 * 576 * 64 + 144 * 576 * 4096,
        ),
    ],
)
def test_costs_are_those_of_the_side(by: str, before: int, after: int) -> None:
    dense = 576 * EACH
    plans = {side: plan_of(by, side) for side in SIDES}
    assert plans["before"].parts["projector"] == (dense, 144 * EACH + before)
    assert plans["after"].parts["projector"] == (dense, dense + after)
    assert plan_of(by, None).parts == plans[KINDS["prune"][by].side].parts
    assert plans["before"].parts["language model"] == plans["after"].parts["language model"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (recipe("uniform", "behind"), r"r\.yaml:4: side cannot be 'behind'; allowed: before, after"),
        (
            recipe("uniform", "before", at="vision.0"),
            r"r\.yaml:4: side: vision\.0 is inside a layer; leave the key out",
        ),
        (recipe("cdpruner", at="vision.0"), r"'cdpruner' at vision\.0, which gives nothing to a language model"),
        (
            recipe("cdpruner, relevance: text"),
            r"'relevance' is not a key of prune; .*CDPruner has no text tower",
        ),
        (recipe("cdpruner, spatial: 0.5"), r"prune by cdpruner has no spatial; prumerge alone has one"),
        (recipe("prumerge, neighbors: 0"), r"prune\.neighbors cannot be '0'; allowed: a whole number from 1"),
        (recipe("prumerge, neighbors: 2.5"), r"prune\.neighbors cannot be '2\.5'"),
    ],
)
def test_what_cannot_be_is_refused(text: str, says: str, tmp_path: Path) -> None:
    folder = tiny_llava.write(tmp_path / "dense")
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(InputError, match=says):
        prepare_apply(folder, tmp_path / "r.yaml")


def test_a_tower_without_cls_takes_what_asks_for_none(tmp_path: Path) -> None:
    folder = tiny_llava.write(tmp_path / "dense", tower="siglip", vision_feature_select_strategy="full")
    (tmp_path / "r.yaml").write_text(recipe("prumerge"))
    with pytest.raises(InputError, match=r"'prumerge' at projector, whose image has no CLS; allowed there: .*cdpruner"):
        prepare_apply(folder, tmp_path / "r.yaml")
    assert found(reduced(folder, recipe("cdpruner")))[0].shape == (3, 9, 48)


def test_the_side_is_kept_by_recipe_and_folder(tmp_path: Path) -> None:
    parsed = parse_recipe(recipe("divprune", "before"))
    (again,) = parse_recipe(json.dumps(parsed.to_json())).steps
    assert (again.side, again.actions) == ("before", parsed.steps[0].actions)
    folder = tiny_llava.write(tmp_path / "dense")
    out = reduced(folder, recipe("divprune", "before"))
    (step,) = json.loads((out / "config.json").read_text())["pumer"]["edits"]
    assert step["side"] == "before"
    assert inspect(out).plan.edits[0]["side"] == "before"

    def other(side: Any) -> None:
        edit(out, lambda config: config["pumer"]["edits"][0].update(side=side))

    other("behind")
    with pytest.raises(InputError, match=r"pumer\.edits\[0\]\.side in its config is 'behind', which that site has not"):
        load(out)


@pytest.mark.parametrize(("by", "side"), [("cdpruner", "before"), ("prumerge, spatial: 0.5", "after")])
def test_on_its_other_side_each_is_exported_and_built(by: str, side: str, tmp_path: Path) -> None:
    out = reduced(tiny_llava.write(tmp_path / "dense"), recipe(by, side))
    assert export_folder(out, dtype="float32")["verification"]["decisions_that_differ"] == 0
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    rtx = EngineSettings("tensorrt-rtx", compute_capabilities=("8.9",))
    assert export_folder(out, tmp_path / "half", trt=rtx, dtype="float16")["engine"]["bytes"] > 0
