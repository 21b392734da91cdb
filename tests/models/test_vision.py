"""Reduction in METER's image tower: what it keeps, what it costs, what goes on into fusion, and what is refused."""

import json
from pathlib import Path

import onnx
import pytest
import random_checkpoint
import torch
from torch import nn

from pumer_convert.convert.apply import apply, prepare_apply
from pumer_convert.convert.load import load
from pumer_convert.convert.plan import edits_of, make_plan
from pumer_convert.errors import InputError
from pumer_convert.export.folder import export_folder
from pumer_convert.export.tensorrt import EngineSettings
from pumer_convert.models.meter import FAMILY
from pumer_convert.recipe.schema import parse_recipe
from pumer_convert.verification.session import open_graph

KINDS = ("tome", "pitome", "bsm")
HEAD = "recipe: 1\nmodel: meter\n"


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return random_checkpoint.write(tmp_path / "meter.ckpt", "meter", "original")


def recipe(*steps: str, head: str = HEAD) -> str:
    """A recipe whose n-th step, a flow mapping, stands in line 3 + n."""
    return f"{head}reduce:\n" + "".join(f"  - {step}\n" for step in steps)


def reduced(source: Path, text: str) -> nn.Module:
    file = source.with_name("r.yaml")
    file.write_text(text)
    apply(source, file, source.with_name("out"), overwrite=True)
    return load(source.with_name("out"))


def batch(images: int = 1, text: int = 9) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 99, (2, text), generator=generator)
    shape = (2, images, 3, 48, 48) if images > 1 else (2, 3, 48, 48)
    pixels = torch.randn(shape, generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


@pytest.mark.parametrize("by", KINDS)
def test_ratio_zero_in_the_tower_changes_no_bit(source: Path, by: str) -> None:
    steps = (f"{{at: vision.0-10, prune: {{image: 0, by: random}}, merge: {{image: 0, by: {by}}}}}",)
    inputs = batch()
    assert torch.equal(reduced(source, recipe(*steps))(**inputs).logits, load(source)(**inputs).logits)


@pytest.mark.parametrize("by", KINDS)
def test_sizes_and_the_source_map_go_on_into_fusion(source: Path, by: str) -> None:
    tower = f"{{at: vision.1-4, merge: {{image: 3 tokens, by: {by}}}}}"
    output = reduced(source, recipe(tower))(**batch())
    assert output.image.states.shape[1] == 37 - 12
    assert output.image.size.sum(1).tolist() == [37, 37]
    assert output.image.source.shape == (2, 37)
    assert torch.equal(output.image.source.amin(1), torch.zeros(2, dtype=torch.int64))
    both = reduced(source, recipe(tower, "{at: fusion.0-1, merge: {image: 5 tokens}}"))(**batch())
    assert both.image.states.shape[1] == 37 - 12 - 10
    assert both.image.size.sum(1).tolist() == [37, 37]
    for row in range(2):
        counts = torch.bincount(both.image.source[row], minlength=15)
        assert torch.equal(counts.float(), both.image.size[row]), "a size is the number of patches that came there"
    names = [*(f"vision.{i}/merge.image" for i in range(1, 5)), "fusion.0/merge.image", "fusion.1/merge.image"]
    assert list(both.trace.taken) == names


@pytest.mark.parametrize("by", KINDS)
def test_merging_equal_tokens_changes_nothing(source: Path, by: str) -> None:
    """With sizes kept and attention proportional, equal tokens may merge anywhere at no loss, tower or fusion."""
    steps = (
        f"{{at: vision.0-8, merge: {{image: 10%, by: {by}}}}}",
        f"{{at: fusion.0-1, merge: {{image: 20%, by: {by}}}}}",
    )
    logits = []
    for model in (load(source), reduced(source, recipe(*steps))):
        table = model.get_parameter("vit_model.visual.positional_embedding")
        table[2:] = table[1]
        inputs = batch()
        inputs["pixel_values"] = inputs["pixel_values"][..., :1, :1].expand(2, 3, 48, 48)
        output = model(**inputs)
        logits.append(output.logits)
    assert output.image.states.shape[1] < 16
    torch.testing.assert_close(logits[1], logits[0], atol=2e-5, rtol=2e-5)
    plain = reduced(source, recipe(*steps, head=HEAD + "proportional_attention: false\n"))
    table = plain.get_parameter("vit_model.visual.positional_embedding")
    table[2:] = table[1]
    assert not torch.allclose(plain(**inputs).logits, logits[0], atol=1e-3), "this sees whether sizes count"


def test_each_image_of_a_pair_goes_on_its_own(tmp_path: Path) -> None:
    source = random_checkpoint.write(tmp_path / "meter.ckpt", "meter", "original", "nlvr2")
    model = reduced(source, recipe("{at: vision.1-8, merge: {image: 10%, by: pitome}}"))
    inputs = batch(images=2)
    other = inputs["pixel_values"].clone()
    other[:, 1] = other[:, 1].flip(-1)
    first, second = model(**inputs).image, model(**{**inputs, "pixel_values": other}).image
    assert torch.equal(first.source[::2], second.source[::2])
    torch.testing.assert_close(first.states[::2], second.states[::2])
    assert not torch.allclose(first.states[1::2], second.states[1::2])


@pytest.mark.parametrize("by", ["cls_attention", "random"])
def test_the_tower_prunes_without_the_text(source: Path, by: str) -> None:
    model = reduced(source, recipe(f"{{at: vision.2-5, prune: {{image: 4 tokens, by: {by}}}}}"))
    inputs = batch()
    output = model(**inputs)
    assert output.image.states.shape[1] == 37 - 16
    assert ((output.image.source >= 0).sum(1) == 21).all()
    assert (output.image.source[:, 0] == 0).all(), "CLS stays"
    same = torch.equal(output.image.source[0], output.image.source[1])
    assert same == (by == "random"), "random is the same for every image, attention is not"
    inputs["input_ids"] = inputs["input_ids"].flip(0)
    assert torch.equal(model(**inputs).image.source, output.image.source)


def test_every_kind_in_the_tower_exports_and_builds(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    source = random_checkpoint.write(tmp_path / "meter.ckpt", "meter", "original", "nlvr2", depth=5, fusion=2)
    reduced(
        source,
        recipe(
            "{at: vision.1-2, merge: {image: 0.1, by: tome}}",
            "{at: vision.3, prune: {image: 0.1, by: cls_attention}, merge: {image: 2 tokens, by: pitome}}",
            "{at: vision.4, prune: {image: {keep: 20}, by: random}}",
            "{at: fusion.0-1, prune: {image: 0.1}, merge: {image: 0.1, text: 0.2, by: pitome}}",
        ),
    )
    result = export_folder(source.with_name("out"), trt=EngineSettings("tensorrt-rtx"), dtype="float32")
    assert result["verification"]["logits_error"] < 1e-4
    assert result["engine"]["bytes"] > 100_000
    model = onnx.load(source.with_name("out") / "model.onnx")
    assert {f.name for f in model.functions} == {"Prune", "Merge", "MergeByEnergy"}
    assert "Scatter" not in " ".join(n.op_type for f in (model.graph, *model.functions) for n in f.node)
    with open_graph(source.with_name("out") / "model.onnx") as graph:
        tower = [name for name in graph.decisions if name.startswith("vision.")]
    assert tower == [
        "vision.1/merge.image",
        "vision.2/merge.image",
        "vision.3/prune.image",
        "vision.3/merge.image",
        "vision.4/prune.image",
    ]


def test_pitomes_margin_narrows_with_depth(source: Path) -> None:
    text = recipe(
        "{at: vision.0-10, merge: {image: 1 token, by: pitome}}",
        "{at: fusion.1, merge: {image: 1 token, by: pitome, margin: 0.5}}",
    )
    model = reduced(source, text)
    config = json.loads((source.with_name("out") / "config.json").read_text())
    edits = {edit["at"]: edit["actions"][0] for edit in config["pumer"]["edits"]}
    for layer in range(11):
        assert edits[f"vision.{layer}"]["margin"] == pytest.approx(0.9 * (1 - layer / 11))
        step = model.get_submodule(f"reducers.vision_{layer}.merge.image")
        assert step.margin == edits[f"vision.{layer}"]["margin"]
    assert edits["fusion.1"]["margin"] == pytest.approx(0.5 * (1 - 1 / 4))


def test_what_a_tower_costs() -> None:
    shape = FAMILY.spec(random_checkpoint.config("meter", "vqa", base=True))
    c, n = 768, 577

    def plan(merge: str):
        return make_plan(shape, edits_of(parse_recipe(recipe(f"{{at: vision.0, {merge}}}")), shape), 32)

    def block(n: int, left: int) -> int:
        return 4 * c * c * n + 2 * n * n * c + 8 * c * c * left

    row = plan("merge: {image: 77 tokens, by: pitome}").rows[1]
    assert (row.image_in, row.image_out, row.dense_macs) == (577, 500, block(577, 577))
    assert row.macs == block(577, 500), "the feed-forward runs on what is left"
    assert row.reducers == n * n * 64 + 77 * 77 * (64 + 768)
    assert plan("merge: {image: 77 tokens, by: tome}").rows[1].reducers == 289 * 288 * (64 + 768)
    assert plan("prune: {image: 77 tokens, by: cls_attention}").rows[1].reducers == n * c
    assert plan("prune: {image: 77 tokens, by: random}").rows[1].reducers == 0
    after = plan("merge: {image: 77 tokens, by: pitome}").rows
    assert after[2].macs == block(500, 500)
    assert [after[-1].image_out, after[-1].text_out] == [500, 32]


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (
            "{at: vision.3, prune: {image: 0.2}}",
            "prune.by cannot be 'relevance' at vision.3, where the text has not met the image; allowed there: "
            "cls_attention, random, uniform, prumerge, visionzip, or merge instead.",
        ),
        ("{at: vision.3, merge: {text: 0.2}}", "merge: no text runs through vision.3, so it cannot be reduced there."),
        (
            "{at: vision.11, merge: {image: 0.2}}",
            "at: the model has no site 'vision.11'; it has vision.0-10 and fusion.0-3.",
        ),
        (
            "{at: vision.3, merge: {image: .2, by: tome, margin: .9}}",
            "merge by tome has no margin; pitome alone has one.",
        ),
        ("{at: vision.3, merge: {image: .2, margin: .9}}", "merge by bsm has no margin; pitome alone has one."),
        (
            "{at: vision.3, merge: {image: .2, by: pitome, margin: 2}}",
            "merge.margin cannot be '2'; allowed: a number from 0 to 1.",
        ),
        (
            "{at: vision.3, prune: {image: .2, margin: .9}}",
            "'margin' is not a key of prune; allowed: image, by, codes, neighbors, spatial, contextual.",
        ),
        (
            "{at: vision.3, merge: {image: .2, by: pitom}}",
            "merge.by cannot be 'pitom'; allowed: bsm, tome, pitome. Did you mean 'pitome'?",
        ),
    ],
)
def test_what_a_tower_refuses(source: Path, step: str, says: str) -> None:
    file = source.with_name("r.yaml")
    file.write_text(recipe(step))
    with pytest.raises(InputError) as error:
        prepare_apply(source, file)
    assert str(error.value) == f"{file}:4: {says}"


def test_the_published_semantics_has_no_reducers_in_the_tower(source: Path) -> None:
    file = source.with_name("r.yaml")
    both = "prune: {image: 0.1}, merge: {image: 0.1}"
    file.write_text(recipe(f"{{at: vision.3, {both}}}", head=HEAD + "semantics: reference\n"))
    with pytest.raises(InputError, match=r"r\.yaml:5: semantics: reference has no reducers at vision\.3, nor has the"):
        prepare_apply(source, file)
    file.write_text(
        recipe("{at: fusion.0, prune: {image: .1}, merge: {image: .1, by: tome}}", head=HEAD + "semantics: reference\n")
    )
    with pytest.raises(InputError, match=r"merge\.by cannot be 'tome'; allowed: bsm\."):
        prepare_apply(source, file)
