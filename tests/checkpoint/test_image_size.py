"""The image size in a recipe: planned, applied as loading at that size would be, recorded, exported; and refused."""

import json
import sys
from pathlib import Path

import pytest
import random_checkpoint
import tiny
import torch
from PIL import Image

from pumer_convert import cli
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.checkpoint.resized import at_image_size
from pumer_convert.convert.apply import apply, prepare_apply
from pumer_convert.convert.build import build
from pumer_convert.convert.load import load, plan_of, spec_of
from pumer_convert.demo import CHECKPOINT
from pumer_convert.errors import InputError
from pumer_convert.evaluation.evaluate import evaluate
from pumer_convert.export.onnx import export_onnx
from pumer_convert.image_processor.settings import image_settings
from pumer_convert.models.family import family_of
from pumer_convert.verification.verify import Case

SIZES = {"vilt": (96, 64), "meter": (48, 32)}
SITES = {"vilt": "encoder.1", "meter": "vision.1"}


def source(folder: Path, model: str) -> Path:
    if model == "vilt":
        return CHECKPOINT
    return random_checkpoint.write(folder / "meter.ckpt", "meter", "original", depth=4, fusion=1)


def recipe(folder: Path, model: str, size: int, reduce: str = "") -> Path:
    file = folder / "r.yaml"
    file.write_text(f"recipe: 1\nmodel: {model}\nimage_size: {size}\n{reduce}")
    return file


def inputs(size: int) -> dict[str, torch.Tensor]:
    return tiny.batch() | {"pixel_values": torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))}


@pytest.mark.parametrize("model", SIZES)
def test_down_scaling_alone_is_the_dense_model_at_that_size(tmp_path: Path, model: str) -> None:
    old, new = SIZES[model]
    dense = source(tmp_path, model)
    report = apply(dense, recipe(tmp_path, model, new), tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["image_size"], config["pumer"]["image_size"]) == (new, {"from": old, "to": new})
    assert report["recipe"]["image_size"] == new
    with torch.no_grad():
        got, want = load(tmp_path / "out")(**inputs(new)), load(dense, image_size=new)(**inputs(new))
    assert torch.equal(got.logits, want.logits)
    assert got.image.states.shape[1] == (new // 8) ** 2 + 1


@pytest.mark.parametrize("model", SIZES)
def test_the_plan_is_beside_the_model_at_its_own_size(tmp_path: Path, model: str) -> None:
    new = SIZES[model][1]
    dense = source(tmp_path, model)
    steps = f"reduce:\n  - at: {SITES[model]}\n    merge: {{image: 0.2, by: pitome}}\n"
    file = recipe(tmp_path, model, new, steps)
    plan = prepare_apply(dense, file).plan
    checkpoint = open_checkpoint(dense)
    whole, small = plan_of(checkpoint), plan_of(checkpoint, image_size=new)
    assert plan.dense_macs == whole.dense_macs
    assert plan.rows[0].image_in == spec_of(checkpoint, new).image_tokens == (new // 8) ** 2 + 1
    assert plan.macs < small.macs < whole.macs
    assert plan.ratio > whole.dense_macs / small.macs > 1.3
    apply(dense, file, tmp_path / "out")
    assert plan_of(open_checkpoint(tmp_path / "out")) == plan, "inspect tells the same of what was written"
    with torch.no_grad():
        output = load(tmp_path / "out")(**inputs(new))
    assert output.image.states.shape[1] == plan.rows[-1].image_out


@pytest.mark.parametrize("model", SIZES)
def test_the_processor_makes_pictures_of_the_new_size(tmp_path: Path, model: str) -> None:
    old, new = SIZES[model]
    dense = source(tmp_path, model)
    apply(dense, recipe(tmp_path, model, new), tmp_path / "out")
    before = open_checkpoint(dense)
    text = before.extra_files.get("preprocessor_config.json")
    text = text or (dense / "preprocessor_config.json").read_text()
    theirs, ours = json.loads(text), json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    for name in ("size", "crop_size"):
        if name in theirs:
            assert ours[name] == {key: value * new // old for key, value in theirs[name].items()}
    assert {k: v for k, v in ours.items() if "size" not in k} == {k: v for k, v in theirs.items() if "size" not in k}
    a, b = image_settings(theirs, ""), image_settings(ours, "")
    assert (a.fit, b.fit) == (("shape", "shape") if model == "vilt" else ("crop", "crop"))
    assert b.size == (None if model == "vilt" else (new, new))
    assert (a.shorter, b.shorter) == (old, new)


def test_it_is_measured_without_the_dense_model_whose_pixels_are_others(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    Image.new("RGB", (20, 20), "red").save(tmp_path / "a.png")
    data.write_text('{"id": "1", "image": "a.png", "text": "is there a red circle?", "answers": ["no"]}\n')
    apply(CHECKPOINT, recipe(tmp_path, "vilt", 64), tmp_path / "out")
    found = evaluate(tmp_path / "out", data, device="cpu")
    assert (found.examples, found.comparison) == (1, None)
    assert "takes images of another size; evaluate that one by itself" in found.notes[0]
    with pytest.raises(InputError, match="its image size is 96x96, not 64x64"):
        evaluate(tmp_path / "out", data, against=CHECKPOINT, device="cpu")


def test_half_precision_weights_stay_what_they_are(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = {name: value.half() for name, value in load_file(CHECKPOINT / "model.safetensors").items()}
    (tmp_path / "half").mkdir()
    save_file(weights, tmp_path / "half" / "model.safetensors")
    (tmp_path / "half" / "config.json").write_text((CHECKPOINT / "config.json").read_text())
    apply(tmp_path / "half", recipe(tmp_path, "vilt", 64), tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")
    name = "vilt.embeddings.position_embeddings"
    assert (written[name].dtype, tuple(written[name].shape)) == (torch.float16, (1, 65, weights[name].shape[2]))
    assert all(torch.equal(written[key], value) for key, value in weights.items() if key != name)


def test_it_exports_at_the_new_size(tmp_path: Path) -> None:
    steps = "reduce:\n  - at: vision.1-3\n    merge: {image: 0.1, by: pitome}\n"
    apply(source(tmp_path, "meter"), recipe(tmp_path, "meter", 32, steps), tmp_path / "out")
    report = export_onnx(tmp_path / "out", cases=(Case(2, 9), Case(1, 5, padded=False)))
    assert report["image_size"] == [32, 32]
    # 17 tokens -> 15 -> 13 -> 12: a decision for every token that enters, three examples in all.
    assert report["verification"]["decisions"] == 3 * (17 + 15 + 13)
    assert json.loads((tmp_path / "out" / "model.onnx.json").read_text())["image_size"] == [32, 32]


@pytest.mark.parametrize(
    ("size", "says"),
    [
        (60, "image_size: an image of 60x60 pixels is not a whole number of 8-pixel patches."),
        (4, "image_size: an image of 4x4 pixels is not a whole number of 8-pixel patches."),
    ],
)
def test_sizes_that_cannot_be(tmp_path: Path, size: int, says: str) -> None:
    file = recipe(tmp_path, "vilt", size)
    with pytest.raises(InputError) as error:
        prepare_apply(CHECKPOINT, file)
    assert str(error.value) == f"{file}:3: {says}"


def test_a_processor_that_is_no_json(tmp_path: Path) -> None:
    folder = tiny.published_vilt(tmp_path / "vilt", reduced=False)
    (folder / "preprocessor_config.json").write_text("{")
    with pytest.raises(InputError, match=r"preprocessor_config\.json is not readable as a JSON object"):
        prepare_apply(folder, recipe(tmp_path, "vilt", 64))


def test_the_dry_run_prints_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = recipe(tmp_path, "vilt", 64)
    words = ["pumer-convert", "apply", "--dry-run", "--json", "--recipe", str(file), str(CHECKPOINT), "-o", "out"]
    monkeypatch.setattr(sys, "argv", words)
    assert cli.main() in (0, None)
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["rows"][0]["image_in"] == 65
    assert plan["ratio"] > 1.5


@pytest.mark.parametrize("model", ["vilt", "meter"])
def test_a_table_of_a_rectangle_is_not_taken_for_a_square(tmp_path: Path, model: str) -> None:
    """64x16 pixels have as many patches as 32x32; fitted once, a table is not fitted again."""
    fitted = at_image_size(open_checkpoint(source(tmp_path, model)), [64, 16])
    name = family_of(model).positions
    assert torch.equal(build(fitted, [64, 16]).state_dict()[name], build(fitted).state_dict()[name])
    there_and_back = build(fitted, [32, 32]).state_dict()[name]
    assert there_and_back.shape == build(fitted).state_dict()[name].shape
    assert not torch.equal(there_and_back, build(fitted).state_dict()[name])
