"""Both towers of a dual encoder in one graph, by optimum's names: what transformers' class of both gives, for any
number of pictures beside any number of texts."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_clip
import tiny_pairs
import tiny_siglip
import torch
import transformers
from PIL import Image

from pumer_convert import Pipeline
from pumer_convert.artifact.engine_sidecar import Sidecar
from pumer_convert.convert.apply import apply
from pumer_convert.errors import InputError
from pumer_convert.export.folder import export_folder, verify_export
from pumer_convert.export.quantize_folder import quantize_folder
from pumer_convert.export.tensorrt import EngineSettings
from pumer_convert.export.triton import export_triton
from pumer_convert.models.similarity import Similarity
from pumer_convert.runtime import open_runtime

MADE = {"clip": tiny_clip.write, "siglip": tiny_siglip.write, "pairs": tiny_pairs.write}
OUTPUTS = ("logits_per_image", "logits_per_text", "text_embeds", "image_embeds")
RECIPE = "recipe: 1\nmodel: siglip\nreduce:\n- {at: vision.1-2, merge: {image: 0.2, by: tome}}\n"


def batch(family: str, texts: int, pictures: int) -> dict[str, torch.Tensor]:
    """Inputs by name; but for SigLIP's every second text is padded."""
    generator = torch.Generator().manual_seed(texts)
    pixels = torch.randn(pictures, 3, 48, 48, generator=generator)
    if family == "siglip":
        return {"input_ids": torch.randint(2, 99, (texts, 16), generator=generator), "pixel_values": pixels}
    ids, mask = torch.randint(2, 80, (texts, 9), generator=generator), torch.ones(texts, 9, dtype=torch.int64)
    ids[:, -1], ids[1::2, 5:], mask[1::2, 6:] = 92, 92, 0
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": pixels}


def arrays(inputs: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in inputs.items()}


@pytest.mark.parametrize("family", MADE)
def test_it_gives_what_transformers_gives(tmp_path: Path, family: str) -> None:
    folder = MADE[family](tmp_path / "dense")
    report = export_folder(folder, joint=True, dtype="float32")
    assert [*report["graphs"]] == ["image", "text", "model"]
    runtime = open_runtime(folder / "model.onnx", device="cpu")
    original = transformers.AutoModel.from_pretrained(folder).eval()
    for texts, pictures in ((3, 2), (1, 4), (2, 1)):
        inputs = batch(family, texts, pictures)
        assert [port.name for port in runtime.signature.inputs] == [*inputs]
        with torch.no_grad():
            expected = original(**inputs)
        found = runtime.run(arrays(inputs))
        assert tuple(found) == OUTPUTS
        assert found["logits_per_image"].shape == (pictures, texts)
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name], atol=2e-5 * float(expected[name].abs().max()), rtol=0)
    told = json.loads((folder / "model.onnx.json").read_text())
    assert (told["graph"], told["text"] is None, told["pictures"] is None) == ("model", False, False)
    logits = Similarity.of_sidecar(told).logits(found["image_embeds"] @ found["text_embeds"].T)
    np.testing.assert_allclose(found["logits_per_image"], logits, atol=2e-5 * np.abs(logits).max(), rtol=0)
    assert [*verify_export(folder)["graphs"]] == ["image", "text", "model"]
    assert export_folder(folder, joint=True, dtype="float32")["graphs"]["model"]["there_already"]
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)).save(tmp_path / "p.png")
    answers = [
        Pipeline(folder / f"{name}.onnx").classify(tmp_path / "p.png", ["cat", "dog"]) for name in ("model", "image")
    ]
    assert answers[0] == answers[1], "labels are chosen from by the two towers beside it"
    (folder / "image.onnx.json").rename(tmp_path / "away")
    with pytest.raises(InputError, match=r"model\.onnx: takes no pictures alone, and beside it lies no file"):
        Pipeline(folder / "model.onnx")
    (tmp_path / "away").rename(folder / "image.onnx.json")
    with pytest.raises(InputError, match=r"model\.onnx gives logits_per_image, .*; data are read for models"):
        quantize_folder(folder, folder)
    with pytest.raises(InputError, match="its pictures and texts are batches of their own, and Triton makes one"):
        export_triton(folder / "model.onnx", tmp_path / "triton")


def test_it_has_the_reducers_and_the_type_of_its_towers(tmp_path: Path) -> None:
    source = tiny_siglip.write(tmp_path / "dense")
    (tmp_path / "r.yaml").write_text(RECIPE)
    apply(source, tmp_path / "r.yaml", tmp_path / "out")
    export_folder(tmp_path / "out", joint=True, dtype="float16", keep_float32=["text.1", "vision.0"])
    kept = {
        name: json.loads((tmp_path / "out" / f"{name}.onnx.json").read_text())["keep_float32"]
        for name in ("image", "text", "model")
    }
    assert kept == {"image": ["vision.0"], "text": ["text.1"], "model": ["vision.0", "text.1"]}
    inputs = arrays(batch("siglip", 3, 2))
    both = open_runtime(tmp_path / "out" / "model.onnx", device="cpu").run(inputs)
    eager = open_runtime(tmp_path / "out", device="cpu", graph="model").run(inputs)
    for name in OUTPUTS:
        np.testing.assert_allclose(both[name], eager[name], atol=3e-2 * np.abs(eager[name]).max(), rtol=0)
    alone = open_runtime(tmp_path / "out" / "image.onnx", device="cpu")(inputs["pixel_values"])
    np.testing.assert_allclose(both["image_embeds"], alone, atol=2e-3)


def test_an_engine_of_it_has_profiles_for_both_batches(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    folder = tiny_clip.write(tmp_path / "dense")
    settings = EngineSettings("tensorrt-rtx", compute_capabilities=("8.9",))
    export_folder(folder, joint=True, dtype="float32", trt=settings)
    sidecar = Sidecar.of(folder / "model.engine")
    assert {*sidecar.profiles[0]} == {"image_batch", "text", "text_batch"}
    assert sidecar.signature.apart
    assert sidecar.profile(image_batch=5, text_batch=1, text=7) == 0
    with pytest.raises(InputError, match="image_batch 9 with text 7 with text_batch 1 is outside of it"):
        sidecar.profile(image_batch=9, text_batch=1, text=7)


def test_one_tower_is_no_pair(tmp_path: Path) -> None:
    folder = tiny_clip.write(tmp_path / "dense", "CLIPVisionModel")
    with pytest.raises(InputError, match="has no two towers to join"):
        export_folder(folder, joint=True)
    assert not [*folder.glob("*.onnx*")]
