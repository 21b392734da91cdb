"""BridgeTower's towers beside reduced fusion layers: `links: pool` leaves them whole, `links: reduce` shortens them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import saved_bridgetower
import torch
import transformers
from click.testing import CliRunner
from saved_bridgetower import RETRIEVAL, batch, write

from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.cli import cli
from pumer_convert.convert.apply import apply
from pumer_convert.convert.load import load, plan_of, signature_of
from pumer_convert.convert.plan import edits_of, make_plan
from pumer_convert.errors import InputError
from pumer_convert.export.folder import export_folder
from pumer_convert.models.bridgetower import FAMILY
from pumer_convert.recipe.schema import load_recipe
from pumer_convert.reducers.site import Trace
from pumer_convert.runtime import open_runtime
from pumer_convert.verification.session import open_graph
from pumer_convert.verification.verify import Case, sample, tensors

STEPS = (
    "{at: vision.0-1, merge: {image: 0.2, by: pitome}}",
    "{at: fusion.0-1, prune: {image: 0.2}, merge: {image: 0.3, text: 0.3}}",
)
ZERO = ("{at: vision.0-1, merge: {image: 0}}", "{at: fusion.0-1, prune: {image: 0}, merge: {image: 0, text: 0}}")


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def recipe(file: Path, *steps: str, links: str = "pool") -> Path:
    lines = "".join(f"  - {step}\n" for step in steps)
    file.write_text(f"recipe: 1\nmodel: bridgetower\nlinks: {links}\nreduce:\n{lines}")
    return file


def reduced(source: Path, *steps: str, links: str = "pool") -> Path:
    out = source.with_name(links)
    apply(source, recipe(source.with_name("r.yaml"), *steps, links=links), out, overwrite=True)
    return out


def off(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got - want).abs().max() / want.abs().max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("task", saved_bridgetower.HEADS)
def test_at_ratio_zero_it_is_the_dense_model(tmp_path: Path, task: str, dtype: str) -> None:
    write(tmp_path / "dense", task, layers=4, fusion=3)
    inputs = batch()
    inputs["pixel_values"] = inputs["pixel_values"].to(getattr(torch, dtype))
    dense = load(tmp_path / "dense", dtype=dtype)(**inputs).outputs
    for links in ("reduce", "pool"):
        for name, value in load(reduced(tmp_path / "dense", *ZERO, links=links), dtype=dtype)(**inputs).outputs.items():
            torch.testing.assert_close(value, dense[name], atol=2e-6 if dtype == "float32" else 1e-14, rtol=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("task", saved_bridgetower.HEADS)
def test_merging_equal_tokens_changes_nothing(tmp_path: Path, task: str, dtype: str) -> None:
    write(tmp_path / "dense", task, layers=4, fusion=3)
    steps = "{at: vision.0-1, merge: {image: 0.1, by: pitome}}", "{at: fusion.0-1, merge: {image: 0.3, text: 0.3}}"
    inputs = batch(rows=2)
    inputs["attention_mask"][:] = 1
    inputs["input_ids"][:, 1:] = 7
    inputs["pixel_values"] = inputs["pixel_values"][..., :1, :1].expand(2, 3, 48, 48).to(getattr(torch, dtype))
    answered = []
    for folder in (tmp_path / "dense", reduced(tmp_path / "dense", *steps)):
        model = load(folder, dtype=dtype)
        for name, first in ((FAMILY.positions, 1), ("bridgetower.text_model.embeddings.position_embeddings.weight", 2)):
            model.get_parameter(name)[first + 1 :] = model.get_parameter(name)[first]
        output = model(**inputs)
        answered.append(output.outputs)
    assert (output.image.states.shape[1], output.text.states.shape[1]) == (15, 6)
    assert (output.image.size.sum(1).tolist(), output.text.size.sum(1).tolist()) == ([37, 37], [11, 11])
    for name, value in answered[0].items():
        assert off(answered[1][name], value) < {"float32": 1e-5, "float64": 1e-9}[dtype]


def test_a_link_reads_the_mean_of_all_originals_in_a_token(tmp_path: Path) -> None:
    """Also of those that the tower itself has merged: each counts as often as there are originals in it."""
    write(tmp_path / "dense", layers=4, fusion=2)
    model = load(reduced(tmp_path / "dense", STEPS[0], STEPS[1].replace("0-1", "0")))
    network, seen = model.bridgetower, {}
    visual = network.vision_model.visual
    for name, module in (("all", visual.ln_post), ("image", network.cross_modal_image_transform)):
        module.register_forward_hook(lambda module, given, got, name=name: seen.update({name: (given[0], got)}))
    visual.transformer.resblocks[3].register_forward_hook(lambda module, given, got: seen.update(tower=got))
    encoder, link = network.text_model.encoder.layer[3], network.cross_modal_text_transform
    encoder.register_forward_hook(lambda module, given, got: seen.update(words=got))
    link.register_forward_hook(lambda module, given, got: seen.update(text=given[0]))
    output, inputs = model(**batch()), batch()
    assert seen["tower"].states.shape[1] == 24
    assert seen["words"].shape[1] == 11, "the tower of texts is whole"
    assert output.image.states.shape[1] == 12
    for row in range(3):
        tower, fused = seen["tower"].source[row], output.image.source[row]
        assert (fused < 0).any()
        for place in range(12):
            want = seen["all"][1][row][tower[fused == place]].mean(0)
            torch.testing.assert_close(seen["image"][0][row, place], want, atol=1e-5, rtol=1e-5)
        assert torch.bincount(fused[fused >= 0], minlength=12).tolist() == output.image.size[row].tolist()
        there, words = inputs["attention_mask"][row] > 0, output.text.source[row]
        assert (words[there] >= 0).all()
        for place in range(int(words.max()) + 1):
            want = seen["words"][row][words == place].mean(0)
            torch.testing.assert_close(seen["text"][row, place], want, atol=1e-5, rtol=1e-5)


def test_what_the_towers_say_to_the_end_is_that_of_the_dense_model(tmp_path: Path) -> None:
    write(tmp_path / "dense", "embeddings", layers=4, fusion=3)
    want = load(tmp_path / "dense")(**batch()).outputs
    pooled, shorter = (
        load(reduced(tmp_path / "dense", STEPS[1], links=links))(**batch()).outputs for links in ("pool", "reduce")
    )
    for name in ("text_embeds", "image_embeds"):
        assert off(pooled[name], want[name]) < 1e-5
        assert off(shorter[name], want[name]) > 1e-3
    assert off(pooled["cross_embeds"], want["cross_embeds"]) > 1e-3


def test_padding_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "dense", layers=4, fusion=3)
    model, inputs = load(reduced(tmp_path / "dense", *STEPS)), batch()
    together = model(**inputs).logits
    for row in range(3):
        length = int(inputs["attention_mask"][row].sum())
        alone = {name: value[row : row + 1] for name, value in inputs.items()}
        alone |= {name: alone[name][:, :length] for name in ("input_ids", "attention_mask")}
        torch.testing.assert_close(model(**alone).logits[0], together[row], atol=2e-5, rtol=1e-4)


def test_gradients_reach_every_parameter(tmp_path: Path) -> None:
    for task in saved_bridgetower.HEADS:
        write(tmp_path / task / "dense", task)
        with torch.enable_grad():
            network = load(reduced(tmp_path / task / "dense", *STEPS))
            # (embeddings have length 1, so their squares say nothing)
            sum(value[:, 0].sum() for value in network(**batch()).outputs.values()).backward()
        assert not [n for n, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]


def test_onnx_runtime_is_eager(tmp_path: Path) -> None:
    """As under `links: reduce`, which is exported beside all families."""
    write(tmp_path / "dense")
    folder = reduced(tmp_path / "dense", "{at: vision.1, merge: {image: 0.2}}", STEPS[1])
    check = export_folder(folder, dtype="float32")["verification"]
    assert check["logits_error"] < 1e-4
    assert json.loads((folder / "model.onnx.json").read_text())["reductions"]["links"] == "pool"
    inputs, model = sample(signature_of(open_checkpoint(folder)), Case(3, 13)), load(folder)
    with open_graph(folder / "model.onnx") as session:
        outputs, decisions = session.run(inputs)
    trace = Trace({name: torch.from_numpy(value) for name, value in decisions.items()})
    forced = model(**tensors(inputs, torch.float32), trace=trace).outputs
    assert len(trace.slack) == 7
    assert max(float(slack.max()) for slack in trace.slack.values()) < 1e-4
    served = open_runtime(folder / "model.onnx", device="cpu").run(inputs)
    for name, value in outputs.items():
        np.testing.assert_allclose(value, forced[name].numpy(), atol=1e-4, rtol=1e-3)
        np.testing.assert_allclose(served[name], value, atol=1e-6, rtol=1e-6)


def base(links: str) -> Any:
    """The spec of a model of the published size."""
    values = transformers.BridgeTowerConfig(architectures=[RETRIEVAL]).to_dict() | {"pumer": {"links": links}}
    return FAMILY.spec(FAMILY.checked(json.loads(json.dumps(values)), "base"))


@pytest.mark.parametrize(("links", "ratio"), [("reduce", 1.81), ("pool", 1.39)])
def test_what_a_base_model_saves(links: str, ratio: float) -> None:
    shape = base(links)
    edits = edits_of(load_recipe("bridgetower"), shape)
    plan, dense = make_plan(shape, edits, 50), make_plan(shape, (), 50)
    assert round(plan.ratio, 2) == ratio
    assert plan.dense_macs == dense.dense_macs == dense.macs
    c, rows = 768, {row.layer: row for row in plan.rows}
    wide = c if links == "pool" else 2 * c
    assert rows["fusion.0"].reducers == sum(n * m * (64 + wide) for n, m in ((130, 130), (25, 25))) + 50 * 325 * c


def test_a_link_after_a_reduction_costs_whole_blocks_and_the_pooling() -> None:
    shape, c = base("pool"), 768
    plan = make_plan(shape, edits_of(load_recipe("bridgetower-fast"), shape), 50)
    rows = {row.layer: row for row in plan.rows}
    entry, left = rows["fusion.0"], rows["link.2"]
    n, m = entry.image_in, entry.text_in
    blocks = sum(12 * c * c * k + 2 * k * k * c for k in (n, m))
    pooling, transforms = c * (n * left.image_in + m * left.text_in), c * c * (left.image_in + left.text_in)
    assert n < 325
    assert left.macs == blocks + pooling + transforms
    assert rows["link.5"].image_in < left.image_in


def test_a_folder_remembers_and_tells(tmp_path: Path) -> None:
    write(tmp_path / "dense")
    folder = reduced(tmp_path / "dense", *STEPS)
    assert json.loads((folder / "config.json").read_text())["pumer"]["links"] == "pool"
    assert load(folder).pools
    planned = json.loads(json.dumps(plan_of(open_checkpoint(folder)).to_json()))
    assert planned == json.loads((folder / "report.json").read_text())["plan"]
    run, file = CliRunner().invoke, recipe(tmp_path / "again.yaml", *STEPS)
    told = run(cli, ["inspect", str(folder)]).output
    planned = run(cli, ["apply", "--dry-run", "--recipe", str(file), str(tmp_path / "dense")]).output
    assert "\nlinks: pool\n" in told
    assert "\nlinks: pool\n" in planned
    assert json.loads(run(cli, ["inspect", "--json", str(folder)]).output)["choices"] == {"links": "pool"}
    assert "links" not in run(cli, ["inspect", str(tmp_path / "dense")]).output


def test_a_folder_that_says_nothing_of_links_reduces(tmp_path: Path) -> None:
    write(tmp_path / "dense")
    folder = reduced(tmp_path / "dense", *STEPS, links="reduce")
    want, told = load(folder)(**batch()).logits, folder / "config.json"
    config = json.loads(told.read_text())
    del config["pumer"]["links"]
    told.write_text(json.dumps(config))
    assert torch.equal(load(folder)(**batch()).logits, want)
    assert off(load(reduced(tmp_path / "dense", *STEPS))(**batch()).logits, want) > 1e-3


def test_a_folder_of_other_links_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "dense")
    told = reduced(tmp_path / "dense", *STEPS) / "config.json"
    config = json.loads(told.read_text())
    told.write_text(json.dumps(config | {"pumer": config["pumer"] | {"links": "mean"}}))
    with pytest.raises(InputError, match=r"pumer\.links in its config is 'mean', not one of reduce, pool; apply the"):
        open_checkpoint(told.parent)
