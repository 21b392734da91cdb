"""The parity ladder of ViLT: original = inserted with ratio 0 = saved and loaded = ONNX Runtime, and an engine."""

from pathlib import Path

import pytest
import random_checkpoint
import tiny
import torch

from pumer_convert.checkpoint import sources
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.apply import apply, prepare_apply
from pumer_convert.convert.load import load
from pumer_convert.convert.plan import make_plan
from pumer_convert.demo import CHECKPOINT
from pumer_convert.recipe.schema import load_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("vilt*.yaml"))
BASE = {
    "architectures": ["ViltForQuestionAnswering"],
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 384,
    "patch_size": 32,
    "max_position_embeddings": 40,
    "id2label": dict.fromkeys(range(3129), ""),
}


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def test_dense_equals_transformers() -> None:
    from transformers import ViltForQuestionAnswering

    theirs = ViltForQuestionAnswering.from_pretrained(CHECKPOINT, attn_implementation="eager").eval()
    inputs = tiny.batch()
    for dtype, limit in ((torch.float32, 1e-5), (torch.float64, 1e-9)):
        pixels = inputs["pixel_values"].to(dtype)
        want = theirs.to(dtype)(**{**inputs, "pixel_values": pixels}).logits
        got = load(CHECKPOINT, dtype=str(dtype).removeprefix("torch."))(**{**inputs, "pixel_values": pixels}).logits
        assert float((got - want).abs().max() / want.abs().max()) < limit


def test_the_original_format_and_the_published_one_hold_the_same_model(tmp_path: Path) -> None:
    inputs = tiny.batch()
    original = open_checkpoint(tiny.original_vilt(tmp_path / "vilt.ckpt"))
    assert (original.task, original.config["layer_norm_eps"]) == ("vqa", 1e-6)
    want = load(CHECKPOINT)(**inputs).logits
    torch.testing.assert_close(load(original.path)(**inputs).logits, want, atol=2e-4, rtol=2e-4)
    published = tiny.published_vilt(tmp_path / "pumer-ft", reduced=False)
    unpadded = {**inputs, "attention_mask": torch.ones_like(inputs["attention_mask"])}
    torch.testing.assert_close(
        load(published)(**unpadded).logits, load(CHECKPOINT)(**unpadded).logits, atol=2e-4, rtol=2e-4
    )


def test_published_reductions_are_read_with_their_layers(tmp_path: Path) -> None:
    model = load(tiny.published_vilt(tmp_path / "pumer"))
    output = model(**tiny.batch(text=32))
    assert output.image.states.shape[1] == 52
    assert output.text.states.shape[1] == 21


@pytest.mark.parametrize("body", ["    prune: {image: 0.3}", "    merge: {image: 0.3}", "    merge: {text: 0.3}"])
def test_every_operation_works_alone(tmp_path: Path, body: str) -> None:
    apply(CHECKPOINT, tiny.recipe(tmp_path / "r.yaml", f"  - at: encoder.2\n{body}\n"), tmp_path / "out")
    output = load(tmp_path / "out")(**tiny.batch(text=20))
    assert output.image.states.shape[1] + output.text.states.shape[1] < 145 + 20
    assert torch.isfinite(output.logits).all()


def test_the_fast_recipe_saves_what_it_tells() -> None:
    from pumer_convert.convert.plan import edits_of
    from pumer_convert.models.vilt import FAMILY

    path = RECIPES[0].with_name("vilt-fast.yaml")
    shape = FAMILY.spec(BASE)
    plan = make_plan(shape, edits_of(load_recipe(path), shape), 32)
    assert plan.ratio >= 2.2
    assert plan.reducer_macs < 0.004 * plan.macs
    told = path.read_text()
    assert f"x{plan.ratio:.2f} fewer MACs" in told
    assert f"{plan.dense_macs / 1e9:.2f} -> {(plan.macs + plan.reducer_macs) / 1e9:.2f} GMACs" in told


@pytest.mark.parametrize("by", ["tome", "pitome"])
def test_merging_equal_tokens_changes_nothing(tmp_path: Path, by: str) -> None:
    """With sizes kept and attention proportional, equal tokens may merge anywhere at no loss."""
    body = f"  - at: encoder.0-5\n    merge: {{image: 20%, by: {by}}}\n"
    apply(CHECKPOINT, tiny.recipe(tmp_path / "r.yaml", body), tmp_path / "out")
    logits, inputs = [], tiny.batch()
    inputs["pixel_values"] = inputs["pixel_values"][..., :1, :1].expand(3, 3, 96, 96)
    for path in (CHECKPOINT, tmp_path / "out"):
        model = load(path)
        table = model.get_parameter("vilt.embeddings.position_embeddings")
        table[:, 2:] = table[:, 1:2]
        output = model(**inputs)
        logits.append(output.logits)
    assert (output.image.states.shape[1], output.text.states.shape[1]) == (38, 11)
    torch.testing.assert_close(logits[1], logits[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("path", [p for p in RECIPES if "fast" not in p.stem], ids=lambda p: p.stem)
def test_every_recipe_is_planned_within_one_percent_of_the_published_macs(path: Path) -> None:
    from pumer_convert.convert.plan import edits_of
    from pumer_convert.models.family import family_of

    family = family_of("vilt")
    pairs = path.stem == "vilt-nlvr2"
    two = {"architectures": ["ViltForImagesAndTextClassification"], "num_images": 2, "modality_type_vocab_size": 3}
    config = {**BASE, **two} if pairs else BASE
    spec = family.spec(config)
    plan = make_plan(spec, edits_of(load_recipe(path), spec), 32)
    dense, reduced = {"vilt-ve": (16.0, 7.6), "vilt-nlvr2": (31.9, 17.4)}.get(path.stem, (16.0, 8.7))
    assert plan.dense_macs / 1e9 == pytest.approx(dense, rel=0.01)
    assert plan.macs / 1e9 == pytest.approx(reduced, rel=0.01)


def test_a_plan_needs_no_weights(tmp_path: Path) -> None:
    prepared = prepare_apply(CHECKPOINT, tiny.recipe(tmp_path / "r.yaml", tiny.PUMER))
    assert [row.image_out for row in prepared.plan.rows] == [145, 145, 87, 52, 52, 31, 31]


def test_the_public_names_are_functions(tmp_path: Path) -> None:
    import pumer_convert

    for _ in range(2):
        pumer_convert.apply(CHECKPOINT, tiny.recipe(tmp_path / "r.yaml", tiny.PUMER), tmp_path / "out", overwrite=True)
        assert callable(pumer_convert.load)
    assert callable(pumer_convert.export_onnx)
    assert callable(pumer_convert.build_engine)


@pytest.mark.parametrize("form", ["original", "transformers", "sharded"])
def test_a_file_that_is_mapped_anew_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    file = random_checkpoint.write(tmp_path / "vilt", "vilt", form, depth=1)
    before = {name: tensor.clone() for name, tensor in open_checkpoint(file).tensors()}
    monkeypatch.setattr(sources, "MAPPED", 0)
    after = dict(open_checkpoint(file).tensors())
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
