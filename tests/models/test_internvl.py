"""The vision part of InternVL is what transformers computes, and its squares of patches are reduced as tokens."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_internvl
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_clip import edit
from transformers import InternVLConfig, InternVLForConditionalGeneration
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from pumer_convert import Pipeline
from pumer_convert.checkpoint.read import check_complete, open_checkpoint
from pumer_convert.cli import cli
from pumer_convert.convert.apply import apply, prepare_apply
from pumer_convert.convert.inspect import inspect
from pumer_convert.convert.load import load
from pumer_convert.convert.plan import make_plan
from pumer_convert.errors import InputError
from pumer_convert.export.folder import export_folder
from pumer_convert.export.tensorrt import EngineSettings
from pumer_convert.models.family import family_of
from pumer_convert.runtime import open_runtime

RMS = "RMS norms"
FORMS: dict[str, dict[str, Any]] = {
    "as published": {},
    RMS: {"vision": {"norm_type": "rms_norm", "use_qk_norm": True, "attention_bias": False}},
    "a last norm": {"vision": {"use_mean_pooling": False}},
    "the last layer by its number": {"vision": {"use_mean_pooling": False}, "vision_feature_layer": 4},
    "an earlier layer": {"vision_feature_layer": -2},
    "no layer": {"vision_feature_layer": -5},
    "no squares": {"downsample_ratio": 1.0},
    "squares of 3 x 3 patches are none, of 4 x 4 they are": {"downsample_ratio": 0.25, "vision": {"patch_size": 6}},
    "no positions, and a mask": {"vision": {"use_absolute_position_embeddings": False, "use_mask_token": True}},
    "other activations": {"vision": {"hidden_act": "quick_gelu"}, "projector_hidden_act": "relu"},
    "in shards": {"shards": "60KB"},
}
RECIPE = """recipe: 1
model: internvl
reduce:
  - {at: vision.0-2, merge: {image: 0.2}, unmerge: before_projector}
  - {at: projector, prune: {image: {keep: 5}, by: KIND}}
"""


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def pixels(dtype: torch.dtype = torch.float32, side: int = 48) -> torch.Tensor:
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1)).to(dtype)


def theirs(folder: Path, given: torch.Tensor) -> torch.Tensor:
    model = InternVLForConditionalGeneration.from_pretrained(folder, dtype=given.dtype).eval()
    found: torch.Tensor = model.get_image_features(pixel_values=given).pooler_output
    return found


def close(found: torch.Tensor, expected: torch.Tensor, share: float) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max() / expected.abs().max()) < share


def reduced(folder: Path, recipe: str, **config: Any) -> Path:
    tiny_internvl.write(folder / "dense", **config)
    (folder / "r.yaml").write_text(recipe)
    apply(folder / "dense", folder / "r.yaml", folder / "out")
    return folder / "out"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", FORMS)
def test_dense_is_transformers(form: str, dtype: torch.dtype, tmp_path: Path) -> None:
    folder = tiny_internvl.write(tmp_path / "dense", **FORMS[form])
    found = load(folder, dtype=str(dtype).removeprefix("torch."))(pixels(dtype)).outputs["image_features"]
    # RMS norms of transformers compute in float32.
    close(found, theirs(folder, pixels(dtype)), 1e-9 if dtype == torch.float64 and form != RMS else 1e-5)


def test_names_of_the_class_in_memory_are_read_and_weights_behind_the_layer_are_not(tmp_path: Path) -> None:
    folder = tiny_internvl.write(tmp_path / "dense", vision_feature_layer=-2, vision={"use_mean_pooling": False})
    expected, file = theirs(folder, pixels()), folder / "model.safetensors"
    weights = {f"model.{name}".replace("model.language_model.lm", "lm"): w for name, w in load_file(file).items()}
    behind = [name for name in weights if ".layer.3." in name or "tower.layernorm." in name]
    assert len(behind) == 20
    save_file(weights | {name: weights[name] * torch.nan for name in behind}, file, {"format": "pt"})
    close(load(folder)(pixels()).outputs["image_features"], expected, 1e-5)


def test_a_picture_becomes_what_the_classes_of_transformers_make_of_it(tmp_path: Path) -> None:
    folder = tiny_internvl.write(tmp_path / "dense")
    file = tmp_path / "p.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (70, 100, 3), np.uint8)).save(file)
    given = GotOcr2ImageProcessorPil.from_pretrained(folder)(Image.open(file), return_tensors="pt")["pixel_values"]
    close(torch.from_numpy(Pipeline(folder).embed_images([file])), theirs(folder, given), 1e-5)
    found = CliRunner().invoke(cli, ["run", str(folder), "--image", str(file)], catch_exceptions=False)
    assert found.stdout == f"image_features: 9 tokens of 48 numbers, {file}\n"


def test_a_picture_cut_into_tiles_is_refused(tmp_path: Path) -> None:
    folder = tiny_internvl.write(tmp_path / "dense")
    size = {"height": 48, "width": 48}
    GotOcr2ImageProcessorPil(size=size, crop_to_patches=True).save_pretrained(folder)
    with pytest.raises(InputError, match="'crop_to_patches', which cuts a picture into tiles"):
        Pipeline(folder)
    GotOcr2ImageProcessorPil(size=size, crop_to_patches=True, max_patches=1).save_pretrained(folder)
    Pipeline(folder)


def test_keys_that_conversion_leaves_in_the_files_change_nothing(tmp_path: Path) -> None:
    """What transformers' script for the originals carries over, and what its classes of pictures write."""
    folder = tiny_internvl.write(tmp_path / "dense")
    Image.new("RGB", (60, 50), (9, 99, 200)).save(tmp_path / "p.png")
    expected = Pipeline(folder).embed_images([tmp_path / "p.png"])
    tower = {"architectures": ["InternVisionModel"], "drop_path_rate": 0.1, "dropout": 0.0, "initializer_factor": 0.1}
    tower |= {"layer_scale_init_value": 7, "initializer_range": 1e-10, "torch_dtype": "bfloat16"}
    edit(folder, lambda values: values["vision_config"].update(tower))
    edit(folder, lambda values: values.update(torch_dtype="bfloat16", vocab_size=99))
    file = folder / "preprocessor_config.json"
    idle = {"crop_size": None, "do_center_crop": None, "device": None, "default_to_square": True}
    idle |= {"data_format": "channels_first", "min_patches": 1, "max_patches": 12, "crop_to_patches": False}
    kind = {"image_processor_type": "GotOcr2ImageProcessorFast", "processor_class": "InternVLProcessor"}
    file.write_text(json.dumps(json.loads(file.read_text()) | idle | kind))
    assert np.array_equal(Pipeline(folder).embed_images([tmp_path / "p.png"]), expected)


def test_without_a_processor_pictures_are_those_of_the_published_ones(tmp_path: Path) -> None:
    folder = tiny_internvl.write(tmp_path / "dense")
    (folder / "preprocessor_config.json").unlink()
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    size = {"height": 48, "width": 48}
    make = GotOcr2ImageProcessorPil(size=size, image_mean=mean, image_std=std)
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (70, 100, 3), np.uint8)).save(tmp_path / "p.png")
    given = make(Image.open(tmp_path / "p.png"), return_tensors="pt")["pixel_values"]
    close(torch.from_numpy(Pipeline(folder).embed_images([tmp_path / "p.png"])), theirs(folder, given), 1e-5)


def test_the_smallest_config_is_read_with_the_values_of_its_class() -> None:
    whole, family = InternVLConfig(), family_of("internvl")
    small = family.checked({"model_type": "internvl", "text_config": whole.text_config.to_dict()}, "here")
    assert family.checked(whole.to_dict(), "here")["vision_config"] == small["vision_config"]
    for name, value in small["vision_config"].items():
        told = getattr(whole.vision_config, name)
        assert value == (told[0] if isinstance(told, tuple) else told), name
    assert family.spec(small).graphs[0].outputs[0].shape == ("batch", whole.image_seq_length, 4096)


def test_a_1b_costs_what_its_matrices_do() -> None:
    """The squares' projector takes 4096 numbers of 256 tokens; the tower's 24 blocks 1025 tokens of 1024."""
    qwen = {"hidden_size": 896, "intermediate_size": 4864, "num_attention_heads": 14, "num_key_value_heads": 2}
    family = family_of("internvl")
    text = {**qwen, "model_type": "qwen2", "num_hidden_layers": 24}
    spec = family.spec(family.checked({"model_type": "internvl", "text_config": text}, "here"))
    assert spec.sites == (*(f"vision.{i}" for i in range(23)), "projector")
    dense = {name: before for name, (before, _) in make_plan(spec, (), 64).parts.items()}
    assert dense["projector"] == 256 * (4096 * 896 + 896 * 896)
    block = 12 * 1024**2 * 1025 + 2 * 1025**2 * 1024
    assert dense["tower"] == 24 * block + 1024 * 14 * 14 * 3 * 1024


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"vision_feature_layer": -6}, "vision_feature_layer is -6 .*allowed: a whole number from -5 to 4"),
        ({"vision_feature_layer": [-2, -1]}, "vision_feature_layer is .*allowed: a whole number"),
        ({"vision_feature_select_strategy": "full"}, "vision_feature_select_strategy is .*allowed: default"),
        ({"downsample_ratio": 0.3}, "downsample_ratio is 0.3 .*; it has to be 1, 0.5, 0.25"),
        ({"downsample_ratio": 0}, "downsample_ratio is 0 in its config; allowed: a number above 0 to 1"),
        ({"downsample_ratio": 0.25}, "48 x 48 pixels are 6 x 6 patches, which do not part into squares of 4 x 4"),
        ({"downsample_ratio": 1.0}, "the weights do not fit the config"),
        ({"ps_version": "v2"}, "ps_version .* that key is not known here"),
        ({"vision_config": {"model_type": "intern_vit_6b"}}, "the tower that is read is internvl_vision"),
        ({"vision_config": {"norm_type": "batch_norm"}}, "vision_config.norm_type is .*allowed: layer_norm, rms_norm"),
        ({"vision_config": {"qk_normalization": True}}, "vision_config.qk_normalization .* not known here"),
        ({"vision_config": {"image_size": [48, 64]}}, "only squares are read"),
        ({"vision_config": None}, "the weights do not fit the config"),
        ({"vision_config": [1]}, "vision_config is .*it has to be an object"),
        ({"architectures": ["InternVLChatModel"]}, "architectures is .*InternVLForConditionalGeneration"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    folder = tiny_internvl.write(tmp_path / "dense")
    edit(folder, lambda values: values.update(change))
    with pytest.raises(InputError, match=says):
        check_complete(open_checkpoint(folder))


def test_weights_without_a_config_are_told(tmp_path: Path) -> None:
    folder = tiny_internvl.write(tmp_path / "dense")
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"the weights of an InternVL without its config\.json"):
        open_checkpoint(folder)


KINDS = ("cls_attention", "uniform", "random", "divprune", "cdpruner", "prumerge", "visionzip")


@pytest.mark.parametrize("by", KINDS)
def test_squares_are_kept_and_exported(by: str, tmp_path: Path) -> None:
    out = reduced(tmp_path, RECIPE.replace("KIND", by))
    found = load(out)(pixels())
    checkpoint = open_checkpoint(out)
    (port,) = family_of("internvl").spec(checkpoint.config).graphs[0].outputs
    assert port.sized({"batch": 3}) == found.outputs["image_features"].shape == (3, 5, 48)
    assert inspect(checkpoint).plan.rows[-1].image_in == 5
    report = export_folder(out, dtype="float32")
    assert report["verification"]["decisions_that_differ"] == 0
    given = open_runtime(out / "vision.onnx", device="cpu").run({"pixel_values": pixels().numpy()})["image_features"]
    close(torch.from_numpy(given), found.outputs["image_features"], 1e-4)
    if by not in ("cls_attention", "visionzip"):  # the others build behind any projector
        return
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    rtx = EngineSettings("tensorrt-rtx", compute_capabilities=("8.9",))
    assert export_folder(out, tmp_path / "half", trt=rtx, dtype="float16")["engine"]["bytes"] > 0


def test_the_squares_are_kept_that_cls_attends_to_most(tmp_path: Path) -> None:
    """As the eager attention of transformers' class has it, in the last block, summed over each square."""
    keep = "  - {at: projector, prune: {image: {keep: 5}, by: cls_attention}}\n"
    out = reduced(tmp_path, f"recipe: 1\nmodel: internvl\nreduce:\n{keep}")
    model = InternVLForConditionalGeneration.from_pretrained(tmp_path / "dense", attn_implementation="eager").eval()
    maps = model.model.vision_tower(pixels(), output_attentions=True).attentions[-1].mean(1)[:, 0, 1:]
    asked = maps.reshape(3, 3, 2, 3, 2).sum((2, 4)).flatten(1)
    kept = asked.topk(5).indices.sort(1).values
    found = load(out)(pixels())
    assert torch.equal(found.trace.taken["projector/prune.image"], kept)
    dense = theirs(tmp_path / "dense", pixels())
    close(found.outputs["image_features"], dense.gather(1, kept[..., None].expand(-1, -1, 48)), 1e-5)


def test_without_squares_a_tower_merges_for_good(tmp_path: Path) -> None:
    recipe = "recipe: 1\nmodel: internvl\nreduce:\n  - {at: vision.0, merge: {image: 0.25}}\n"
    out = reduced(tmp_path, recipe, downsample_ratio=1.0)
    assert load(out)(pixels()).outputs["image_features"].shape == (3, 27, 48)
    tiny_internvl.write(tmp_path / "squares")
    with pytest.raises(InputError, match=r"4: unmerge: what follows vision\.0 takes every place of"):
        prepare_apply(tmp_path / "squares", tmp_path / "r.yaml")


def test_pictures_of_another_size_are_taken(tmp_path: Path) -> None:
    """Positions are fitted as transformers fits them."""
    out = reduced(tmp_path, "recipe: 1\nmodel: internvl\nimage_size: 64\nreduce: []\n")
    given = pixels(side=64)
    close(load(out)(given).outputs["image_features"], theirs(tmp_path / "dense", given), 1e-5)
    (tmp_path / "r.yaml").write_text("recipe: 1\nmodel: internvl\nimage_size: 56\nreduce: []\n")
    with pytest.raises(InputError, match="7 x 7 patches, which do not part into squares of 2 x 2; choose another"):
        prepare_apply(tmp_path / "dense", tmp_path / "r.yaml")
