"""SigLIP is what transformers computes; merging what is equal changes nothing, for the head knows the sizes; what is
not understood is refused."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_siglip
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_clip import edit

from pumer_convert.artifact.engine_sidecar import Sidecar
from pumer_convert.checkpoint.read import check_complete, open_checkpoint
from pumer_convert.convert.apply import apply, prepare_apply
from pumer_convert.convert.inspect import inspect
from pumer_convert.convert.load import load
from pumer_convert.convert.plan import make_plan
from pumer_convert.errors import InputError
from pumer_convert.export.folder import export_folder, verify_export
from pumer_convert.export.tensorrt import EngineSettings
from pumer_convert.image_processor.picture_input import settings_of
from pumer_convert.image_processor.pixels import to_pixels
from pumer_convert.models.family import family_of
from pumer_convert.runtime import open_runtime

EXACT = {"float32": 1e-5, "float64": 1e-9}
RECIPE = """recipe: 1
model: siglip
reduce:
  - {at: vision.0, merge: {image: 0.3, by: tome}}
  - {at: vision.1, prune: {image: 0.1, by: random}, merge: {image: 0.2, by: pitome}}
export: {dtype: float32, profiles: [{batch: [1, 2, 4], text: [16, 16, 16]}]}
"""


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def words() -> torch.Tensor:
    """Texts of several lengths, padded with 1, which is seen."""
    ids = torch.randint(2, 99, (3, 16), generator=torch.Generator().manual_seed(4))
    ids[1, 5:], ids[2, 1:] = 1, 1
    return ids


def pixels(dtype: str = "float32") -> torch.Tensor:
    return torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(1)).to(getattr(torch, dtype))


def ours(folder: Path, dtype: str = "float32") -> dict[str, torch.Tensor]:
    model, found = load(folder, dtype=dtype), {}
    for graph in family_of("siglip").spec(open_checkpoint(folder).config).graphs:
        inputs = {"input_ids": words()} if graph.text else {"pixel_values": pixels(dtype)}
        found |= model.run(graph.name, inputs).outputs
    return found


def theirs(folder: Path, architecture: str, dtype: str = "float32", **call: Any) -> dict[str, torch.Tensor]:
    model = getattr(transformers, architecture).from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    inputs = {} if "Vision" in architecture else {"input_ids": words()}
    if "Text" not in architecture:
        inputs |= {"pixel_values": pixels(dtype)}
    return model(**{**inputs, **call})


def close(found: torch.Tensor, expected: torch.Tensor, share: float) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max() / expected.abs().max()) < share


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("architecture", tiny_siglip.CLASSES)
def test_every_class_gives_what_transformers_gives(tmp_path: Path, architecture: str, dtype: str) -> None:
    folder = tiny_siglip.write(tmp_path / "dense", architecture)
    expected, found = theirs(folder, architecture, dtype), ours(folder, dtype)
    assert found
    for name, value in found.items():
        close(value, expected[name], EXACT[dtype])
        assert float(value.std(0).mean() / value.abs().mean()) > 0.05, "the inputs hardly matter"


def test_the_config_is_obeyed_and_half_files_are_read(tmp_path: Path) -> None:
    one = {"hidden_act": "gelu", "layer_norm_eps": 1e-2, "num_attention_heads": 2}
    folder = tiny_siglip.write(tmp_path / "dense", dtype=torch.float16, text=one, vision={**one, "patch_size": 16})
    expected = theirs(folder, "SiglipModel")
    for name, value in ours(folder).items():
        close(value, expected[name], 1e-5)
    wide = tiny_siglip.write(tmp_path / "wide", text={"hidden_size": 64, "projection_size": None})
    close(ours(wide)["text_embeds"], theirs(wide, "SiglipModel").text_embeds, 1e-5)


def test_a_tower_with_its_model_before_its_names(tmp_path: Path) -> None:
    folder = tiny_siglip.write(tmp_path / "dense", "SiglipVisionModel")
    expected, file = ours(folder), folder / "model.safetensors"
    state = load_file(file)
    there = "vision_model.head.probe" in state
    renamed = {n.removeprefix("vision_model.") if there else f"vision_model.{n}": v for n, v in state.items()}
    save_file(renamed, file, metadata={"format": "pt"})
    assert torch.equal(ours(folder)["pooler_output"], expected["pooler_output"])


def test_pictures_become_what_its_processor_makes_of_them(tmp_path: Path) -> None:
    folder = tiny_siglip.write(tmp_path / "dense")
    picture = Image.fromarray(np.random.default_rng(3).integers(0, 256, (70, 100, 3), np.uint8))
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    settings = settings_of(open_checkpoint(folder).processor, "siglip")
    found = to_pixels(picture, settings)
    np.testing.assert_allclose(found, processor(picture, return_tensors="np")["pixel_values"][0], atol=1e-6)
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").unlink(missing_ok=True)
    bare = open_checkpoint(folder)
    assert settings_of(bare.processor, "siglip") == settings
    assert "as SiglipImageProcessor does, the shorter side 48 pixels" in " ".join(bare.notes)


def test_another_size_interpolates_all_positions(tmp_path: Path) -> None:
    folder = tiny_siglip.write(tmp_path / "dense")
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "size": {"height": 64, "width": 64}}))
    pictures = torch.randn(2, 3, 64, 64)
    expected = theirs(folder, "SiglipModel", pixel_values=pictures, interpolate_pos_encoding=True).image_embeds
    close(load(folder).run("image", {"pixel_values": pictures}).outputs["image_embeds"], expected, 1e-5)


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("by", ["tome", "pitome"])
def test_merging_what_is_equal_changes_nothing(tmp_path: Path, by: str, dtype: str) -> None:
    """Patches of four kinds without positions; what is merged counts by its size, in the head too."""
    folder = tiny_siglip.write(tmp_path / "dense")
    state = load_file(folder / "model.safetensors")
    state["vision_model.embeddings.position_embedding.weight"].zero_()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    kinds = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(2)).to(getattr(torch, dtype))
    which = torch.tensor([[0] * 30 + [1] * 4 + [2, 3], [0] * 12 + [3] * 20 + [1] * 4])
    pictures = kinds[which].unflatten(1, (6, 6)).permute(0, 3, 1, 4, 2, 5).reshape(2, 3, 48, 48)
    step = f"recipe: 1\nmodel: siglip\nreduce:\n  - {{at: vision.0-2, merge: {{image: 0.2, by: {by}}}}}\n"
    (tmp_path / "r.yaml").write_text(step)
    apply(folder, tmp_path / "r.yaml", tmp_path / "out")
    expected = load(folder, dtype=dtype).run("image", {"pixel_values": pictures}).outputs["image_embeds"]
    found = load(tmp_path / "out", dtype=dtype).run("image", {"pixel_values": pictures})
    assert found.image.states.shape[1] < 24
    close(found.outputs["image_embeds"], expected, EXACT[dtype])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["vision_config"].update(num_patches=256), "vision_config.num_patches is 256"),
        (lambda c: c["vision_config"].update(vision_use_head=False), "without the head there is no embedding"),
        (lambda c: c["text_config"].update(projection_size=32), "the embeddings of pictures have 64 numbers"),
        (lambda c: c["text_config"].update(hidden_act="xielu"), 'text_config.hidden_act is "xielu"'),
        (lambda c: c.update(model_type="siglip2"), "a SigLIP 2 of the NaFlex kind"),
        (lambda c: c.update(architectures=["SiglipForImageClassification"]), "one of these heads has to be named"),
        (lambda c: c.pop("model_type"), "the weights of a SigLIP without its config.json"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    folder = edit(tiny_siglip.write(tmp_path / "dense"), change)
    with pytest.raises(InputError, match=message):
        check_complete(open_checkpoint(folder))


def test_what_a_recipe_can_ask_for(tmp_path: Path) -> None:
    folder = tiny_siglip.write(tmp_path / "dense")
    for step, message in (
        ("merge: {text: 0.2}", "the text's tower is read at its last place, so it is left whole"),
        (
            "prune: {image: 0.2, by: cls_attention}",
            r"'cls_attention' at vision\.1, whose image has no CLS; allowed there: probe_attention, column_a",
        ),
        ("prune: {image: 0.2}", r"prune\.by cannot be 'relevance' at vision\.1, where the text has not met the image"),
    ):
        (tmp_path / "r.yaml").write_text(f"recipe: 1\nmodel: siglip\nreduce:\n  - {{at: vision.1, {step}}}\n")
        with pytest.raises(InputError, match=message):
            prepare_apply(folder, tmp_path / "r.yaml")
    assert inspect(folder).graphs["text"] == (("input_ids",), ("text_embeds",))


def test_the_probe_says_what_its_head_attends_to(tmp_path: Path) -> None:
    """In the last block, whose feed-forward alone stands between: with weights of 0 in that, exactly."""
    folder = tiny_siglip.write(tmp_path / "dense")
    state = load_file(folder / "model.safetensors")
    for part in ("weight", "bias"):
        state[f"vision_model.encoder.layers.3.mlp.fc2.{part}"].zero_()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "r.yaml").write_text(
        "recipe: 1\nmodel: siglip\nreduce:\n  - {at: vision.3, prune: {image: {keep: 5}, by: probe_attention}}\n"
    )
    apply(folder, tmp_path / "r.yaml", tmp_path / "out")
    theirs = transformers.SiglipVisionModel.from_pretrained(folder).eval()
    head, x = theirs.head, theirs(pixels()).last_hidden_state
    _, weights = head.attention(head.probe.expand(3, 1, -1), x, x)
    kept = load(tmp_path / "out")(pixels()).image.source >= 0
    assert (kept.sum(1) == 5).all()
    assert torch.equal(kept.nonzero()[:, 1].view(3, 5), weights[:, 0].topk(5).indices.sort().values)


def test_both_graphs_are_exported_and_built(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    (tmp_path / "r.yaml").write_text(RECIPE)
    apply(tiny_siglip.write(tmp_path / "dense"), tmp_path / "r.yaml", tmp_path / "out")
    export_folder(tmp_path / "out", trt=EngineSettings("tensorrt-rtx", compute_capabilities=("8.9",)))
    assert verify_export(tmp_path / "out")["graphs"]["image"]["verification"]["decisions"] > 0
    model = load(tmp_path / "out")
    image, text = (open_runtime(tmp_path / "out" / f"{name}.onnx", device="cpu") for name in ("image", "text"))
    np.testing.assert_allclose(image(pixels().numpy()), model(pixels()).outputs["image_embeds"], atol=1e-5)
    expected = model.run("text", {"input_ids": words()}).outputs["text_embeds"]
    np.testing.assert_allclose(text(words().numpy()), expected, atol=1e-5)
    with pytest.raises(InputError, match="a text of 9 tokens does not fit; this model takes 16, with padding"):
        text(words().numpy()[:, :9])
    for name in ("image", "text"):
        assert Sidecar.of(tmp_path / "out" / f"{name}.engine").profiles == [{"batch": (1, 2, 4)}]


def test_costs_are_those_of_the_published_models() -> None:
    """Of B/16 at 224 pixels, in multiply-accumulates: patches, blocks, head, blocks of texts."""
    family = family_of("siglip")
    spec = family.spec(family.checked({"model_type": "siglip"}, "here"))
    image, text = (make_plan(spec, (), 64, graph=name) for name in ("image", "text"))
    patches, head = (next(r.dense_macs for r in image.rows if r.layer == name) for name in ("patches", "image_head"))
    blocks = [sum(r.dense_macs for r in plan.rows if "." in r.layer) for plan in (image, text)]
    found = [cost / 1e9 for cost in (patches, blocks[0], head, blocks[1])]
    assert found == pytest.approx([0.12, 17.4, 0.24, 5.5], rel=0.01, abs=0.005)
