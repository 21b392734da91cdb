"""DINOv2 is what transformers computes, from a picture's file to its features; merging what is equal changes nothing;
what is not understood is refused."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_dinov2
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_clip import edit

from pumer_convert.checkpoint.read import check_complete, open_checkpoint
from pumer_convert.convert.apply import apply, prepare_apply
from pumer_convert.convert.inspect import inspect
from pumer_convert.convert.load import load
from pumer_convert.convert.plan import make_plan
from pumer_convert.demo import CHECKPOINT
from pumer_convert.errors import InputError
from pumer_convert.evaluation.evaluate import evaluate
from pumer_convert.export.folder import export_folder
from pumer_convert.image_processor.picture_input import settings_of
from pumer_convert.models.family import family_of
from pumer_convert.runtime import Pipeline

EXACT = {"float32": 1e-5, "float64": 1e-9}
OUTPUTS = ("pooler_output", "last_hidden_state")
SWIGLU = {"use_swiglu_ffn": True, "mlp_ratio": 3}


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def pixels(dtype: str = "float32", side: int = 48) -> torch.Tensor:
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1)).to(getattr(torch, dtype))


def theirs(folder: Path, architecture: str, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
    model = getattr(transformers, architecture).from_pretrained(folder, dtype=pictures.dtype).eval()
    found = model(pictures)
    return {name: found[name] for name in OUTPUTS}


def close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], share: float) -> None:
    assert set(found) == set(expected)
    for name, value in found.items():
        assert value.shape == expected[name].shape
        assert float((value - expected[name]).abs().max() / expected[name].abs().max()) < share
        assert float(value.std(0).mean() / value.abs().mean()) > 0.05, "the pictures hardly matter"


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("values", [{}, SWIGLU], ids=["mlp", "swiglu"])
@pytest.mark.parametrize("architecture", tiny_dinov2.CLASSES)
def test_every_class_gives_what_transformers_gives(
    tmp_path: Path, architecture: str, values: dict[str, Any], dtype: str
) -> None:
    folder = tiny_dinov2.write(tmp_path / "dense", architecture, **values)
    expected = theirs(folder, architecture, pixels(dtype))
    close(load(folder, dtype=dtype)(pixels(dtype)).outputs, expected, EXACT[dtype])


@pytest.mark.parametrize(
    "values",
    [
        {"hidden_act": "gelu_new"},
        {"layer_norm_eps": 1e-2},
        {"num_attention_heads": 2},
        {"qkv_bias": False},
        {"mlp_ratio": 3, "use_swiglu_ffn": True},
        {"patch_size": [16, 16], "image_size": [48, 48]},
    ],
    ids=lambda values: next(iter(values)),
)
def test_every_value_of_the_config_is_obeyed(tmp_path: Path, values: dict[str, Any]) -> None:
    folder = tiny_dinov2.write(tmp_path / "dense", dtype=torch.float16, side=48, **values)
    close(load(folder)(pixels()).outputs, theirs(folder, "Dinov2Model", pixels()), EXACT["float32"])


def test_dropout_acts_in_training_alone_and_whole_branches_are_dropped(tmp_path: Path) -> None:
    model = load(tiny_dinov2.write(tmp_path / "dense", drop_path_rate=0.5, hidden_dropout_prob=0.0))
    layer = model.encoder.layer[0].train()
    torch.manual_seed(0)
    dropped = layer._dropped(torch.ones(200, 2, 3))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert (dropped == dropped[:, :1, :1]).all(), "a branch is dropped of an example as a whole"
    assert torch.equal(layer.eval()._dropped(dropped), dropped)


@pytest.mark.parametrize("architecture", tiny_dinov2.CLASSES)
def test_from_a_file_to_features_at_the_size_of_the_processor(tmp_path: Path, architecture: str) -> None:
    """Its positions are those of larger pictures, as in all published ones: they are interpolated."""
    folder = tiny_dinov2.write(tmp_path / "dense", architecture, image_size=104, side=64)
    noise = np.random.default_rng(3).integers(0, 256, (70, 100, 3), np.uint8)
    Image.fromarray(noise).resize((300, 210), Image.Resampling.BICUBIC).save(tmp_path / "a.png")
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    assert type(processor).__name__ == "BitImageProcessorPil"
    given = processor(Image.open(tmp_path / "a.png"), return_tensors="pt")["pixel_values"]
    assert given.shape == (1, 3, 64, 64)
    expected, model = theirs(folder, architecture, given), load(folder)
    for name, value in model(given).outputs.items():
        assert float((value - expected[name]).abs().max() / expected[name].abs().max()) < 1e-5
    found = Pipeline(folder, device="cpu").embed_images(tmp_path / "a.png")
    np.testing.assert_allclose(found, expected["pooler_output"], atol=1e-5)
    assert inspect(folder).origin == f"transformers {architecture} folder"
    assert "64x64 pixels; the positions are interpolated" in " ".join(open_checkpoint(folder).notes)


def test_positions_are_interpolated_once_whatever_the_size(tmp_path: Path) -> None:
    """From the file's own table, not from the one that is fitted to the processor's pictures."""
    folder = tiny_dinov2.write(tmp_path / "dense", image_size=104, side=64)
    expected = theirs(folder, "Dinov2Model", pixels(side=80))
    close(load(folder, image_size=80)(pixels(side=80)).outputs, expected, 1e-5)
    (tmp_path / "r.yaml").write_text("recipe: 1\nmodel: dinov2\nimage_size: 80\n")
    apply(folder, tmp_path / "r.yaml", tmp_path / "out")
    close(load(tmp_path / "out")(pixels(side=80)).outputs, expected, 1e-5)


def test_a_checkpoint_without_a_processor_is_taken_for_a_published_one(tmp_path: Path) -> None:
    folder = tiny_dinov2.write(tmp_path / "dense")
    own = settings_of(open_checkpoint(folder).processor, "dinov2")
    for name in ("preprocessor_config.json", "processor_config.json"):
        (folder / name).unlink(missing_ok=True)
    bare = open_checkpoint(folder)
    settings = settings_of(bare.processor, "dinov2")
    assert (settings.fit, settings.size, settings.shorter) == ("crop", (48, 48), 48)
    assert (settings.mean, settings.std, settings.filter) == (own.mean, own.std, own.filter)
    assert "as BitImageProcessor does, the shorter side 48 pixels" in " ".join(bare.notes)


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("by", ["tome", "pitome"])
@pytest.mark.parametrize("architecture", tiny_dinov2.CLASSES)
def test_merging_what_is_equal_changes_no_feature(tmp_path: Path, architecture: str, by: str, dtype: str) -> None:
    """Patches of four kinds without positions: what is merged counts by its size, and every patch has its features."""
    folder = tiny_dinov2.write(tmp_path / "dense", architecture)
    state = load_file(folder / "model.safetensors")
    state["embeddings.position_embeddings"].zero_()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    kinds = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(2)).to(getattr(torch, dtype))
    which = torch.tensor([[0] * 30 + [1] * 4 + [2, 3], [0] * 12 + [3] * 20 + [1] * 4])
    pictures = kinds[which].unflatten(1, (6, 6)).permute(0, 3, 1, 4, 2, 5).reshape(2, 3, 48, 48)
    step = f"recipe: 1\nmodel: dinov2\nreduce:\n  - {{at: vision.0-2, merge: {{image: 0.2, by: {by}}}}}\n"
    (tmp_path / "r.yaml").write_text(step)
    apply(folder, tmp_path / "r.yaml", tmp_path / "out")
    expected = load(folder, dtype=dtype)(pictures).outputs
    found = load(tmp_path / "out", dtype=dtype)(pictures)
    assert found.image.states.shape[1] < 28
    for name, value in found.outputs.items():
        assert value.shape == expected[name].shape
        assert float((value - expected[name]).abs().max() / expected[name].abs().max()) < EXACT[dtype]


@pytest.mark.parametrize("by", ["cls_attention", "random"])
def test_pruned_patches_are_zeros_and_registers_stay(tmp_path: Path, by: str) -> None:
    folder = tiny_dinov2.write(tmp_path / "dense", "Dinov2WithRegistersModel")
    step = f"recipe: 1\nmodel: dinov2\nreduce:\n  - {{at: vision.3, prune: {{image: {{keep: 15}}, by: {by}}}}}\n"
    (tmp_path / "r.yaml").write_text(step)
    apply(folder, tmp_path / "r.yaml", tmp_path / "out")
    found = load(tmp_path / "out")(pixels())
    states, source = found.outputs["last_hidden_state"], found.image.source
    assert states.shape == (3, 41, 64)
    assert ((states != 0).any(-1) == (source >= 0)).all()
    assert (source[:, :5] == torch.arange(5)).all()
    assert ((source >= 0).sum(1) == 15).all()
    assert torch.equal(states[:, 0], found.outputs["pooler_output"])
    if by == "random":
        return
    # In the last block, before its feed-forward: what transformers' own attention says of its CLS.
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    asked = model(pixels(), output_attentions=True).attentions[3].mean(1)[:, 0, 5:]
    expected = asked.topk(10).indices.sort().values
    assert torch.equal((source[:, 5:] >= 0).nonzero()[:, 1].view(3, 10), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(head_dim=8), "head_dim is 8 in its config; that key is not known here"),
        (lambda c: c.update(num_register_tokens=4), "num_register_tokens is 4 in its config; that key is not known"),
        (
            lambda c: c.update(model_type="dinov2_with_registers", num_register_tokens=0, architectures=None),
            "num_register_tokens is 0 in its config; allowed: a whole number from 1",
        ),
        (lambda c: c.update(hidden_act="xielu"), 'hidden_act is "xielu"'),
        (lambda c: c.update(num_attention_heads=5), "num_attention_heads is 5 in its config; hidden_size, 64"),
        (lambda c: c.update(num_channels=1), "pictures are read with 3 channels alone"),
        (lambda c: c.update(mlp_ratio=0.001), "mlp_ratio is 0.001 in its config; hidden_size is 64"),
        (lambda c: c.update(drop_path_rate=1), "drop_path_rate is 1 in its config; allowed: .* to below 1"),
        (lambda c: c.update(patch_size=[8, 4]), "only squares are read"),
        (lambda c: c.update(image_size=[48, 32]), "only squares are read"),
        (lambda c: c.update(patch_size=64), "patch_size is 64 in its config; image_size is 48"),
        (lambda c: c.update(architectures=["Dinov2ForImageClassification"]), "has to be named: Dinov2Model"),
        (lambda c: c.update(architectures=["Dinov2Backbone"]), "has to be named: Dinov2Model"),
        (lambda c: c.update(use_swiglu_ffn=True), "missing: encoder.layer.0.mlp.weights_in"),
        (lambda c: c.update(model_type="dinov3_vit"), "no format that is read here"),
        (lambda c: c.pop("model_type"), "the weights of a DINOv2 without its config.json"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    folder = edit(tiny_dinov2.write(tmp_path / "dense"), change)
    with pytest.raises(InputError, match=message) as refused:
        check_complete(open_checkpoint(folder))
    assert "\n" not in str(refused.value)


def test_weights_under_the_names_within_transformers_are_refused(tmp_path: Path) -> None:
    folder = tiny_dinov2.write(tmp_path / "dense")
    file = folder / "model.safetensors"
    state = {name.replace("attention.attention.query", "attention.q_proj"): v for name, v in load_file(file).items()}
    save_file(state, file)
    with pytest.raises(InputError, match="names that they have within transformers 5; save the model with save_pre"):
        open_checkpoint(folder)


def test_a_module_that_holds_one_is_read(tmp_path: Path) -> None:
    folder = tiny_dinov2.write(tmp_path / "dense")
    expected, file = load(folder)(pixels()).outputs["pooler_output"], folder / "model.safetensors"
    save_file({f"backbone.{name}": value for name, value in load_file(file).items()}, file)
    assert torch.equal(load(folder)(pixels()).outputs["pooler_output"], expected)
    assert "Names in the file have backbone. before them" in " ".join(open_checkpoint(folder).notes)


def test_transformers_reads_what_a_recipe_without_reducers_writes(tmp_path: Path) -> None:
    folder = tiny_dinov2.write(tmp_path / "dense")
    (tmp_path / "r.yaml").write_text("recipe: 1\nmodel: dinov2\nimage_size: 64\n")
    apply(folder, tmp_path / "r.yaml", tmp_path / "out")
    expected = theirs(folder, "Dinov2Model", pixels(side=64))
    close(load(tmp_path / "out")(pixels(side=64)).outputs, expected, 1e-5)
    close(theirs(tmp_path / "out", "Dinov2Model", pixels(side=64)), expected, 1e-5)


def test_what_a_recipe_can_ask_for(tmp_path: Path) -> None:
    folder = tiny_dinov2.write(tmp_path / "dense")
    for step, message in (
        ("merge: {text: 0.2}", r"no text runs through vision\.1, so it cannot be reduced there\."),
        ("prune: {image: 0.2}", r"prune\.by cannot be 'relevance' at vision\.1, where the text has not met the image"),
        ("prune: {image: 0.2, by: probe_attention}", "whose image no probe pools; allowed there: cls_attention, rand"),
    ):
        (tmp_path / "r.yaml").write_text(f"recipe: 1\nmodel: dinov2\nreduce:\n  - {{at: vision.1, {step}}}\n")
        with pytest.raises(InputError, match=message):
            prepare_apply(folder, tmp_path / "r.yaml")
    assert inspect(folder).graphs == {"image": (("pixel_values",), OUTPUTS)}


def test_what_needs_texts_or_answers_is_refused(tmp_path: Path) -> None:
    folder = tiny_dinov2.write(tmp_path / "dense")
    (tmp_path / "d.jsonl").write_text('{"image": "a.png", "text": "a"}\n')
    with pytest.raises(InputError, match="answers nothing; retrieval needs one with a tower of pictures and a tower"):
        evaluate(folder, tmp_path / "d.jsonl")
    pipeline = Pipeline(folder, device="cpu")
    picture = Image.new("RGB", (60, 50), "red")
    with pytest.raises(InputError, match="a tower alone has no scores"):
        pipeline.classify(picture, ["a", "b"])
    with pytest.raises(InputError, match="the model takes no text"):
        pipeline.embed_texts("a")
    export_folder(folder, dtype="float32")
    exported = Pipeline(folder / "image.onnx", device="cpu")
    np.testing.assert_allclose(exported.embed_images(picture), pipeline.embed_images(picture), atol=1e-5)
    side = json.loads((folder / "image.onnx.json").read_text())
    assert [port["shape"] for port in side["outputs"]] == [["batch", 64], ["batch", 37, 64]]
    export_folder(folder, tmp_path / "larger", dtype="float32", image_size=64)
    side = json.loads((tmp_path / "larger" / "image.onnx.json").read_text())
    assert [port["shape"] for port in side["outputs"]] == [["batch", 64], ["batch", 65, 64]]


def test_costs_are_those_of_the_published_models() -> None:
    """In multiply-accumulates at 224 pixels: the blocks of S/14, and of g/14, whose feed-forward is a SwiGLU."""
    family, found = family_of("dinov2"), []
    giant = {"num_hidden_layers": 40, "num_attention_heads": 24, "use_swiglu_ffn": True}
    for values in ({"hidden_size": 384, "num_attention_heads": 6}, {"hidden_size": 1536, **giant}):
        spec = family.spec(family.checked({"model_type": "dinov2", **values}, "here"), 224)
        plan = make_plan(spec, (), 0, graph="image")
        found.append(sum(row.dense_macs for row in plan.rows if "." in row.layer) / 1e9)
    n, small, wide, inner = 257, 384, 1536, 4096
    expected = [
        12 * (12 * small**2 * n + 2 * n**2 * small) / 1e9,
        40 * ((4 * wide**2 + 3 * wide * inner) * n + 2 * n**2 * wide) / 1e9,
    ]
    assert found == pytest.approx(expected)


def test_a_tokenizer_is_not_for_it(tmp_path: Path) -> None:
    folder = tiny_dinov2.write(tmp_path / "dense", "Dinov2Model")
    (tmp_path / "r.yaml").write_text("recipe: 1\nmodel: dinov2\nreduce: [{at: vision.0, merge: {image: 0.2}}]\n")
    with pytest.raises(InputError, match="takes no text, so that a tokenizer is not for it"):
        prepare_apply(folder, tmp_path / "r.yaml", tokenizer=CHECKPOINT)
