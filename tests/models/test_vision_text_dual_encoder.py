"""A VisionTextDualEncoderModel is what transformers computes: both kinds of either tower, every form of its names."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny_pairs
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.apply import apply
from pumer_convert.convert.load import load, plan_of
from pumer_convert.data.preprocess import Preprocessor

EXACT = {"float32": 1e-5, "float64": 1e-9}
KINDS = [("vit", "bert"), ("clip_vision_model", "bert"), ("vit", "roberta"), ("clip_vision_model", "roberta")]
TEXTS = ["the cat", "a red star is here, is it not?", "", "x"]
RECIPE = """recipe: 1
model: vision-text-dual-encoder
reduce:
  - {at: vision.0, merge: {image: 0.3, by: tome}}
  - {at: vision.1, prune: {image: 0.1, by: random}, merge: {image: 0.2, by: pitome}}
  - {at: vision.2, prune: {image: 0.2, by: cls_attention}}
"""
NAMES = ("image_embeds", "text_embeds", "logits_per_image", "logits_per_text")


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def theirs(folder: Path, dtype: str, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    model = transformers.VisionTextDualEncoderModel.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    return model(**inputs)


def given(text: str = "bert", dtype: str = "float32", *, padded: bool = True) -> dict[str, torch.Tensor]:
    """Texts, pictures; without `padded` the mask says that what fills up the texts is there."""
    words = dict(tiny_pairs.tokenizer(text)(TEXTS, padding=True, return_tensors="pt"))
    mask = words["attention_mask"] if padded else torch.ones_like(words["attention_mask"])
    pixels = torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(1)).to(getattr(torch, dtype))
    return {"input_ids": words["input_ids"], "attention_mask": mask, "pixel_values": pixels}


def close(found: torch.Tensor, expected: torch.Tensor, share: float) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max() / expected.abs().max()) < share


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize(("vision", "text"), KINDS)
def test_embeddings_and_logits_are_those_of_transformers(tmp_path: Path, vision: str, text: str, dtype: str) -> None:
    folder = tiny_pairs.write(tmp_path / "dense", vision, text)
    model = load(folder, dtype=dtype)
    for padded in (True, False):
        inputs = given(text, dtype, padded=padded)
        expected, found = theirs(folder, dtype, inputs), model.run("model", inputs).outputs
        for name in NAMES:
            close(found[name], expected[name], EXACT[dtype])
        for graph, names in (("image", ["pixel_values"]), ("text", ["input_ids", "attention_mask"])):
            alone = model.run(graph, {name: inputs[name] for name in names}).outputs
            assert torch.equal(alone[f"{graph}_embeds"], found[f"{graph}_embeds"])
            assert float(alone[f"{graph}_embeds"].std(0).mean()) > 0.02, "the inputs hardly matter"


@pytest.mark.parametrize("act", ["gelu", "quick_gelu", "relu"])
def test_the_config_is_obeyed(tmp_path: Path, act: str) -> None:
    one = {"hidden_act": act, "layer_norm_eps": 1e-2, "num_attention_heads": 2}
    for vision, more in (("vit", {"qkv_bias": False, "pooler_act": act}), ("clip_vision_model", {})):
        pictures = {**one, **more, "patch_size": 16}
        words = {**one, "type_vocab_size": 3, "max_position_embeddings": 50}
        folder = tiny_pairs.write(tmp_path / vision, vision, pictures=pictures, words=words)
        expected, found = theirs(folder, "float32", given()), load(folder).run("model", given()).outputs
        for name in NAMES:
            close(found[name], expected[name], 1e-5)


def rename(folder: Path, change: Callable[[str], str]) -> None:
    file = folder / "model.safetensors"
    state = {change(name): value.clone() for name, value in load_file(file).items()}
    save_file(state, file, metadata={"format": "pt"})


@pytest.mark.parametrize("vision", tiny_pairs.VISION)
def test_names_of_every_time_are_read(tmp_path: Path, vision: str) -> None:
    folder = tiny_pairs.write(tmp_path / "dense", vision)
    expected = load(folder).run("model", given()).outputs
    memory = transformers.VisionTextDualEncoderModel.from_pretrained(folder).state_dict()
    torch.save(memory, folder / "pytorch_model.bin")
    first = (folder / "model.safetensors").rename(folder / "kept")
    for name, value in load(folder).run("model", given()).outputs.items():
        assert torch.equal(value, expected[name])
    first.rename(folder / "model.safetensors")
    state = load_file(folder / "model.safetensors")
    state["text_model.embeddings.position_ids"] = torch.arange(45)[None]
    state["vision_model.embeddings.mask_token"] = torch.zeros(1, 1, 64)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    inner = "vision_model." if vision == "clip_vision_model" else ""
    rename(folder, lambda name: "pair." + name.replace("vision_model.", f"vision_model.{inner}"))
    for name, value in load(folder).run("model", given()).outputs.items():
        assert torch.equal(value, expected[name])


@pytest.mark.parametrize("vision", tiny_pairs.VISION)
def test_files_become_embeddings_and_a_reduced_folder_is_one_of_transformers_too(tmp_path: Path, vision: str) -> None:
    folder = tiny_pairs.write(tmp_path / "dense", vision, dtype=torch.float16)
    (tmp_path / "r.yaml").write_text(RECIPE)
    apply(folder, tmp_path / "r.yaml", tmp_path / "out")
    out = load_file(tmp_path / "out" / "model.safetensors")
    assert {value.dtype for value in out.values()} == {torch.float16}
    assert out.keys() == load_file(folder / "model.safetensors").keys()
    picture = Image.fromarray(np.random.default_rng(3).integers(0, 256, (70, 100, 3), np.uint8))
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    kind = getattr(transformers, f"{tiny_pairs.VISION[vision][1].__name__.removesuffix('Pil')}Pil")
    pixels = kind.from_pretrained(folder)(picture, return_tensors="pt")["pixel_values"]
    inputs = {**{name: tokens[name] for name in ("input_ids", "attention_mask")}, "pixel_values": pixels}
    expected, preprocessor = theirs(folder, "float32", inputs), Preprocessor.of(folder)
    arrays = {**preprocessor.words(TEXTS), **preprocessor.arrange([[preprocessor.pixels(picture)]])}
    found = load(folder).run("model", {name: torch.from_numpy(value) for name, value in arrays.items()}).outputs
    close(found["image_embeds"], expected["image_embeds"], 1e-5)
    close(found["text_embeds"], expected["text_embeds"], 1e-5)
    again = theirs(tmp_path / "out", "float32", inputs)
    assert torch.equal(again["logits_per_image"], expected["logits_per_image"]), "it knows no reductions"


@pytest.mark.parametrize("vision", tiny_pairs.VISION)
def test_another_size_interpolates_as_transformers_does(tmp_path: Path, vision: str) -> None:
    folder = tiny_pairs.write(tmp_path / "dense", vision)
    (tmp_path / "r.yaml").write_text(f"image_size: 96\n{RECIPE}")
    (tmp_path / "zero.yaml").write_text("recipe: 1\nmodel: vision-text-dual-encoder\nimage_size: 96\n")
    apply(folder, tmp_path / "r.yaml", tmp_path / "out")
    apply(folder, tmp_path / "zero.yaml", tmp_path / "zero")
    pictures = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(2))
    model = transformers.VisionTextDualEncoderModel.from_pretrained(folder).eval()
    pooled = model.vision_model(pictures, interpolate_pos_encoding=True).pooler_output
    expected = torch.nn.functional.normalize(model.visual_projection(pooled), dim=-1)
    close(load(tmp_path / "zero")(pictures).outputs["image_embeds"], expected, 1e-5)
    image = load(tmp_path / "out")(pictures).image
    assert image.source is not None
    assert image.source.shape == (2, 145)
    assert image.states.shape[1] < 90


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("vision", tiny_pairs.VISION)
def test_merging_what_is_equal_changes_nothing(tmp_path: Path, vision: str, dtype: str) -> None:
    """Patches of four kinds without positions; what is merged counts by its size."""
    folder = tiny_pairs.write(tmp_path / "dense", vision)
    state = load_file(folder / "model.safetensors")
    (table,) = [name for name in state if name.startswith("vision_model.embeddings.position")]
    state[table].view(37, 64)[1:] = 0
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    kinds = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(2)).to(getattr(torch, dtype))
    which = torch.tensor([[0] * 30 + [1] * 4 + [2, 3], [0] * 12 + [3] * 20 + [1] * 4])
    pictures = kinds[which].unflatten(1, (6, 6)).permute(0, 3, 1, 4, 2, 5).reshape(2, 3, 48, 48)
    (tmp_path / "r.yaml").write_text(
        "recipe: 1\nmodel: vision-text-dual-encoder\nreduce:\n  - {at: vision.0-2, merge: {image: 0.2, by: pitome}}\n"
    )
    apply(folder, tmp_path / "r.yaml", tmp_path / "out")
    expected = load(folder, dtype=dtype)(pictures).outputs["image_embeds"]
    found = load(tmp_path / "out", dtype=dtype)(pictures)
    assert found.image.states.shape[1] < 24
    close(found.outputs["image_embeds"], expected, EXACT[dtype])


def test_a_plan_is_of_one_graph_or_both(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE)
    for vision in tiny_pairs.VISION:
        apply(tiny_pairs.write(tmp_path / vision, vision), tmp_path / "r.yaml", tmp_path / f"{vision}-out")
        checkpoint = open_checkpoint(tmp_path / f"{vision}-out")
        image, text, whole = (plan_of(checkpoint, graph=name) for name in ("image", "text", None))
        assert image.ratio > whole.ratio > text.ratio == 1
        # The blocks, the patches, and the projection behind ViT's pooler.
        blocks = 4 * (4 * 64 * 64 * 37 + 2 * 37 * 37 * 64 + 2 * 64 * 128 * 37)
        pooler = 64 * 64 * (vision == "vit")
        assert image.dense_macs == blocks + 36 * 3 * 64 * 64 + pooler + 64 * 24
