"""CLIP is what transformers computes: every class, form of file and convention; what is equal merges unchanged."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny_clip
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from pumer_convert.artifact.engine_sidecar import Sidecar
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.apply import apply
from pumer_convert.convert.load import load, plan_of
from pumer_convert.convert.plan import make_plan
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.errors import InputError
from pumer_convert.export.folder import export_folder, verify_export
from pumer_convert.export.tensorrt import EngineSettings
from pumer_convert.models.family import family_of
from pumer_convert.runtime import open_runtime

EXACT = {"float32": 1e-5, "float64": 1e-9}
TEXTS = ["the cat", "a red star is here, is it not? " * 2, "", "x"]
RECIPE = """recipe: 1
model: clip
reduce:
  - {at: vision.0, merge: {image: 0.3, by: tome}}
  - {at: vision.1, prune: {image: 0.1, by: random}, merge: {image: 0.2, by: pitome}}
  - {at: vision.2, prune: {image: 0.2, by: cls_attention}}
export: {dtype: float32, profiles: [{batch: [1, 2, 4], text: [4, 16, 77]}]}
"""


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def theirs(folder: Path, architecture: str, dtype: str = "float32", **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    model = getattr(transformers, architecture).from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    return model(**inputs)


def words(texts: list[str] = TEXTS) -> dict[str, torch.Tensor]:
    return dict(tiny_clip.tokenizer()(texts, padding=True, return_tensors="pt"))


def pixels(dtype: str = "float32", rows: int = 3) -> torch.Tensor:
    return torch.randn(rows, 3, 48, 48, generator=torch.Generator().manual_seed(1)).to(getattr(torch, dtype))


def ours(folder: Path, dtype: str = "float32") -> dict[str, torch.Tensor]:
    """All that the graphs of a folder give for `words()` and `pixels()`."""
    model, found = load(folder, dtype=dtype), {}
    spec = family_of("clip").spec(open_checkpoint(folder).config)
    for graph in spec.graphs:
        inputs = words() if graph.text else {"pixel_values": pixels(dtype)}
        found |= model.run(graph.name, inputs).outputs
    return found


def close(found: torch.Tensor, expected: torch.Tensor, share: float) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max() / expected.abs().max()) < share


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("architecture", tiny_clip.CLASSES)
def test_every_class_gives_what_transformers_gives(tmp_path: Path, architecture: str, dtype: str) -> None:
    folder = tiny_clip.write(tmp_path / "dense", architecture)
    inputs = {} if "Vision" in architecture else words()
    if "Text" not in architecture:
        inputs |= {"pixel_values": pixels(dtype)}
    expected, found = theirs(folder, architecture, dtype, **inputs), ours(folder, dtype)
    assert found
    for name, value in found.items():
        close(value, expected[name], EXACT[dtype])
        assert float(value.std(0).mean() / value.abs().mean()) > 0.05, "the inputs hardly matter"


@pytest.mark.parametrize("end", [2, 92, 40], ids=["largest", "tokenizer's", "another"])
def test_a_text_is_read_at_its_end(tmp_path: Path, end: int) -> None:
    folder = tiny_clip.write(tmp_path / "dense", "CLIPTextModelWithProjection", text={"eos_token_id": end})
    ids = torch.tensor([[91, 5, 40, 7, 92, 92, 92], [91, 5, 6, 8, 40, 92, 40], [91, 92, 92, 3, 40, 5, 6]])
    mask = torch.tensor([[1] * 5 + [0] * 2, [1] * 7, [1] * 7])
    inputs = {"input_ids": ids, "attention_mask": mask}
    found = load(folder).run("text", inputs).outputs["text_embeds"]
    close(found, theirs(folder, "CLIPTextModelWithProjection", **inputs).text_embeds, 1e-5)
    alone = load(folder).run("text", {name: value[:1, :5] for name, value in inputs.items()}).outputs["text_embeds"]
    close(alone, found[:1], 1e-5)


def rename(folder: Path, change: Callable[[str], str]) -> None:
    file = folder / "model.safetensors"
    save_file({change(name): value for name, value in load_file(file).items()}, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("architecture", "start"),
    [("CLIPVisionModel", "vision_model."), ("CLIPTextModel", "text_model."), ("CLIPModel", "clip.")],
)
def test_what_stands_before_the_names_does_not_matter(tmp_path: Path, architecture: str, start: str) -> None:
    folder = tiny_clip.write(tmp_path / "dense", architecture)
    expected = ours(folder)
    there = any(name.startswith(start) for name in load_file(folder / "model.safetensors"))
    rename(folder, lambda name: name.removeprefix(start) if there else start + name)
    for name, value in ours(folder).items():
        assert torch.equal(value, expected[name])


def test_files_of_every_form_are_read(tmp_path: Path) -> None:
    folder = tiny_clip.write(tmp_path / "dense")
    expected = ours(folder)
    sharded = tiny_clip.write(tmp_path / "sharded", max_shard_size="100KB")
    assert len([*sharded.glob("*.safetensors")]) > 1
    pickled = tiny_clip.write(tmp_path / "pickled")
    state = load_file(pickled / "model.safetensors")
    state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    torch.save(state, pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    bare = tiny_clip.edit(tiny_clip.write(tmp_path / "bare"), lambda config: config.pop("architectures"))
    for form in (sharded, pickled, bare):
        for name, value in ours(form).items():
            assert torch.equal(value, expected[name])


def test_half_files_stay_half(tmp_path: Path) -> None:
    folder = tiny_clip.write(tmp_path / "half", dtype=torch.float16)
    (tmp_path / "r.yaml").write_text(RECIPE)
    apply(folder, tmp_path / "r.yaml", tmp_path / "out")
    out = load_file(tmp_path / "out" / "model.safetensors")
    assert {value.dtype for value in out.values()} == {torch.float16}
    assert out.keys() == load_file(folder / "model.safetensors").keys()
    expected = theirs(folder, "CLIPModel", pixel_values=pixels(), **words())
    for name, value in ours(folder).items():
        close(value, expected[name], 1e-5)


def test_a_reduced_folder_is_one_of_transformers_too(tmp_path: Path) -> None:
    """Without the reductions, which it does not know."""
    for architecture, inputs in (
        ("CLIPModel", {"pixel_values": pixels(), **words()}),
        ("CLIPVisionModel", {"pixel_values": pixels()}),
    ):
        folder, out = tiny_clip.write(tmp_path / architecture, architecture), tmp_path / f"{architecture}-out"
        (tmp_path / "r.yaml").write_text(RECIPE)
        apply(folder, tmp_path / "r.yaml", out)
        expected, found = theirs(folder, architecture, **inputs), theirs(out, architecture, **inputs)
        name = "image_embeds" if architecture == "CLIPModel" else "pooler_output"
        assert torch.equal(expected[name], found[name])


def test_old_sections_go_before_the_new_ones(tmp_path: Path) -> None:
    """As in files of 2022: with the defaults of all that they do not say."""
    sizes = {**tiny_clip.VISION, "layer_norm_eps": 0.1}
    folder = tiny_clip.write(tmp_path / "dense", vision={"hidden_act": "gelu", "layer_norm_eps": 0.3})
    tiny_clip.edit(folder, lambda config: config.update(vision_config_dict=sizes, text_config_dict=None))
    found, expected = ours(folder), theirs(folder, "CLIPModel", pixel_values=pixels(), **words())
    close(found["image_embeds"], expected.image_embeds, 1e-5)
    vision = open_checkpoint(folder).config["vision_config"]
    assert (vision["hidden_act"], vision["layer_norm_eps"]) == ("quick_gelu", 0.1)


@pytest.mark.parametrize("act", ["gelu", "quick_gelu", "gelu_pytorch_tanh", "relu"])
def test_the_config_is_obeyed(tmp_path: Path, act: str) -> None:
    one = {"hidden_act": act, "layer_norm_eps": 1e-2, "num_attention_heads": 2}
    folder = tiny_clip.write(tmp_path / "dense", text=one, vision={**one, "patch_size": 16})
    expected = theirs(folder, "CLIPModel", pixel_values=pixels(), **words())
    for name, value in ours(folder).items():
        close(value, expected[name], 1e-5)


def test_files_become_embeddings(tmp_path: Path) -> None:
    folder = tiny_clip.write(tmp_path / "dense")
    picture = Image.fromarray(np.random.default_rng(3).integers(0, 256, (70, 100, 3), np.uint8))
    picture.save(tmp_path / "picture.png")
    processor = transformers.CLIPImageProcessorPil.from_pretrained(folder)
    given = processor(Image.open(tmp_path / "picture.png"), return_tensors="pt")
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    expected = theirs(folder, "CLIPModel", **given, **tokens)
    preprocessor, model = Preprocessor.of(folder), load(folder)
    arrays = preprocessor.arrange([[preprocessor.pixels(Image.open(tmp_path / "picture.png"))]])
    image = model.run("image", {name: torch.from_numpy(value) for name, value in arrays.items()})
    text = model.run("text", {n: torch.from_numpy(v) for n, v in preprocessor.words(TEXTS).items()})
    close(image.outputs["image_embeds"], expected.image_embeds, 1e-5)
    close(text.outputs["text_embeds"], expected.text_embeds, 1e-5)
    long = preprocessor.words(["cat " * 200])["input_ids"]
    assert long.shape == (1, 77)
    assert long[0, -1] == 92, "a text that is cut keeps its end"


def test_a_processor_of_another_size_interpolates(tmp_path: Path) -> None:
    folder = tiny_clip.write(tmp_path / "dense")
    file = folder / "preprocessor_config.json"
    size = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
    file.write_text(json.dumps({**json.loads(file.read_text()), **size}))
    pictures = torch.randn(2, 3, 64, 64)
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    expected = model(pixel_values=pictures, interpolate_pos_encoding=True, **words()).image_embeds
    found = load(folder).run("image", {"pixel_values": pictures}).outputs["image_embeds"]
    close(found, expected, 1e-5)
    (tmp_path / "r.yaml").write_text(f"image_size: 96\n{RECIPE}")
    apply(folder, tmp_path / "r.yaml", tmp_path / "out")
    assert load(tmp_path / "out")(torch.randn(1, 3, 96, 96)).image.source.shape == (1, 145)


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("by", ["tome", "pitome"])
def test_merging_what_is_equal_changes_nothing(tmp_path: Path, by: str, dtype: str) -> None:
    """Patches of four kinds without positions; what is merged counts by its size."""
    folder = tiny_clip.write(tmp_path / "dense")
    state = load_file(folder / "model.safetensors")
    state["vision_model.embeddings.position_embedding.weight"][1:] = 0
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    kinds = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(2)).to(getattr(torch, dtype))
    which = torch.tensor([[0] * 30 + [1] * 4 + [2, 3], [0] * 12 + [3] * 20 + [1] * 4])
    pictures = kinds[which].unflatten(1, (6, 6)).permute(0, 3, 1, 4, 2, 5).reshape(2, 3, 48, 48)
    (tmp_path / "r.yaml").write_text(
        f"recipe: 1\nmodel: clip\nreduce:\n  - {{at: vision.0-2, merge: {{image: 0.2, by: {by}}}}}\n"
    )
    apply(folder, tmp_path / "r.yaml", tmp_path / "out")
    expected = load(folder, dtype=dtype).run("image", {"pixel_values": pictures}).outputs["image_embeds"]
    found = load(tmp_path / "out", dtype=dtype).run("image", {"pixel_values": pictures})
    assert found.image.states.shape[1] < 24
    close(found.outputs["image_embeds"], expected, EXACT[dtype])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("clip")
    (home / "r.yaml").write_text(RECIPE)
    apply(tiny_clip.write(home / "dense"), home / "r.yaml", home / "out")
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    export_folder(home / "out", trt=EngineSettings("tensorrt-rtx", compute_capabilities=("8.9",)))
    return home / "out"


def test_both_graphs_are_exported_and_built(exported: Path) -> None:
    report = verify_export(exported)
    assert report["graphs"]["image"]["verification"]["decisions"] > 0
    model, preprocessor = load(exported), Preprocessor.of(exported)
    image, text = (open_runtime(exported / f"{name}.onnx", device="cpu") for name in ("image", "text"))
    expected = model(pixels(rows=5)).outputs["image_embeds"]
    np.testing.assert_allclose(image(pixels(rows=5).numpy()), expected, atol=1e-5)
    arrays = preprocessor.words(TEXTS)
    expected = model.run("text", {name: torch.from_numpy(value) for name, value in arrays.items()}).outputs
    np.testing.assert_allclose(text(**arrays), expected["text_embeds"], atol=1e-5)
    with pytest.raises(InputError, match=r"a text without the token 92, its end"):
        text(input_ids=arrays["input_ids"][:, :4], attention_mask=arrays["attention_mask"][:, :4])
    served = Preprocessor.of_sidecar(json.loads((exported / "text.onnx.json").read_text()), exported)
    assert {name: value.tolist() for name, value in served.words(TEXTS).items()} == {
        name: value.tolist() for name, value in arrays.items()
    }
    sidecars = [Sidecar.of(exported / f"{name}.engine") for name in ("image", "text")]
    assert [one.signature.name for one in sidecars] == ["image", "text"]
    assert [[*one.profiles[0]] for one in sidecars] == [["batch"], ["batch", "text"]]


def test_towers_alone_are_exported(tmp_path: Path) -> None:
    for architecture, name in (("CLIPVisionModel", "image"), ("CLIPTextModelWithProjection", "text")):
        folder = tiny_clip.write(tmp_path / name, architecture)
        report = export_folder(folder, dtype="float16")
        assert report["onnx"] == str(folder / f"{name}.onnx")
        assert verify_export(folder)["verification"]["logits_error"] < 3e-2


def test_costs_are_those_of_the_published_models() -> None:
    """Of B/16 and L/14 at 224 pixels, in multiply-accumulates."""
    family = family_of("clip")
    for vision, text, projection, costs in (
        ({"patch_size": 16}, {}, 512, (0.12, 17.5, 3.0)),
        (
            {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
            | {"patch_size": 14},
            {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
            768,
            (0.15, 80.9, 6.7),
        ),
    ):
        config = {"vision_config": vision, "text_config": text, "projection_dim": projection}
        spec = family.spec(family.checked({"model_type": "clip", **config}, "here"))
        image, words = (make_plan(spec, (), 77, graph=name) for name in ("image", "text"))
        patches = next(row.dense_macs for row in image.rows if row.layer == "patches")
        blocks = [sum(r.dense_macs for r in plan.rows if "." in r.layer) for plan in (image, words)]
        assert [cost / 1e9 for cost in (patches, *blocks)] == pytest.approx(costs, rel=0.01, abs=0.005)
        assert make_plan(spec, (), 77).dense_macs == image.dense_macs + words.dense_macs


def test_a_plan_is_of_one_graph_or_both(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE)
    apply(tiny_clip.write(tmp_path / "dense"), tmp_path / "r.yaml", tmp_path / "out")
    checkpoint = open_checkpoint(tmp_path / "out")
    image, whole = plan_of(checkpoint, graph="image"), plan_of(checkpoint)
    assert image.ratio > whole.ratio > 1
    assert plan_of(checkpoint, graph="text").ratio == 1


def test_pixels_of_another_size_are_refused(tmp_path: Path) -> None:
    model = load(tiny_clip.write(tmp_path / "clip"))
    with pytest.raises(InputError, match=r"the model was loaded for images of \(48, 48\)"):
        model(torch.zeros(1, 3, 56, 56))
