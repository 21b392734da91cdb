"""The type that is served is measured: what overflows in half precision is told with its layer, layers are kept in
float32, and what the type costs is reported layer by layer."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import ladder
import pytest
import tiny_siglip
import torch
from command import run
from safetensors.torch import load_file, save_file

from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.apply import apply
from pumer_convert.convert.build import build
from pumer_convert.convert.load import load, signature_of, spec_of
from pumer_convert.errors import InputError, VerificationError
from pumer_convert.export.folder import export_folder, verify_export
from pumer_convert.export.tensorrt import EngineSettings
from pumer_convert.models.family import FAMILIES
from pumer_convert.models.spec import in_ranges
from pumer_convert.runtime import open_runtime
from pumer_convert.verification.half_precision import Batch
from pumer_convert.verification.verify import Case, sample, tensors

LOUD = {
    "vilt": ("vqa", "encoder.1", r"encoder\.layer\.1\.output\.dense"),
    "meter": ("vqa", "vision.1", r"resblocks\.1\.mlp\.c_fc"),
    "bridgetower": ("retrieval", "fusion.0", r"cross_modal_text_layers\.0\.output\.dense"),
    "vision-text-dual-encoder": ("embeddings", "vision.1", r"vision_model\.encoder\.layer\.1\.output\.dense"),
    "clip": ("embeddings", "vision.1", r"vision_model\.encoder\.layers\.1\.mlp\.fc2"),
    "clip-fdt": ("embeddings", "vision.1", r"visual\.transformer\.resblocks\.1\.mlp\.c_proj"),
    "dinov2": ("embeddings", "vision.1", r"encoder\.layer\.1\.mlp\.fc2"),
    "llava": ("embeddings", "projector", r"multi_modal_projector\.linear_1\.weight"),  # no norm stands before it
    "paligemma": ("embeddings", "vision.1", r"vision_tower\.encoder\.layers\.1\.mlp\.fc2"),
    "gemma3": ("embeddings", "vision.1", r"vision_tower\.encoder\.layers\.1\.mlp\.fc2"),
    "internvl": ("embeddings", "vision.1", r"vision_tower\.encoder\.layer\.1\.mlp\.fc2"),
    "llava_onevision": ("embeddings", "projector", r"multi_modal_projector\.linear_1\.weight"),
    "idefics3": ("embeddings", "vision.1", r"vision_model\.encoder\.layers\.1\.mlp\.fc2"),
    "smolvlm": ("embeddings", "vision.1", r"vision_model\.encoder\.layers\.1\.mlp\.fc2"),
    "siglip": ("embeddings", "vision.1", r"vision_model\.encoder\.layers\.1\.mlp\.fc2"),
}
"""Of each family a task, a layer, and the names of the weights that are made so large that it overflows in float16."""


def louder(folder: Path, names: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Path:
    """The folder, or the file of a trainer, with other weights where a name holds these."""
    for file in [folder] if folder.is_file() else folder.glob("*.safetensors"):
        whole = load_file(file) if file.suffix == ".safetensors" else torch.load(file)
        weights = whole.get("state_dict", whole.get("model", whole))
        found = [name for name in weights if re.search(names, name)]
        assert found
        for name in found:
            weights[name] = change(weights[name])
        save_file(weights, file, {"format": "pt"}) if file.suffix == ".safetensors" else torch.save(whole, file)
    return folder


def large(weights: torch.Tensor) -> torch.Tensor:
    """As large as float16 holds."""
    return weights * (5e4 / weights.abs().max().clamp(min=1e-4))


def loud(folder: Path, family: str) -> Path:
    """A checkpoint of the family of which the layer in `LOUD` gives numbers beyond float16, and nothing else does."""
    task, _, names = LOUD[family]
    return louder(ladder.MADE[family, task](folder), names, large)


def tower(folder: Path) -> Path:
    """SigLIP's tower for pictures, loud."""
    made = tiny_siglip.write(folder, "SiglipVisionModel")
    return louder(made, r"encoder\.layers\.1\.mlp\.fc2", large)


def left(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if file.suffix in (".onnx", ".engine"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_of_every_family_is_named_and_can_be_kept(tmp_path: Path, family: str) -> None:
    checkpoint = open_checkpoint(loud(tmp_path / "dense", family))
    layer, signature, layers = LOUD[family][1], signature_of(checkpoint), spec_of(checkpoint).weights()
    batch = Batch(signature.name, tensors(sample(signature, Case(2, 7)), torch.float32), {}, layers)
    broken = batch.half(build(checkpoint, dtype="float16")).broken
    assert broken is not None
    assert broken.layer == layer
    assert [*batch.beyond(build(checkpoint), 65504)] == [layer]
    model = build(checkpoint, dtype="float16", keep_float32=[layer])
    types = {name: parameter.dtype for name, parameter in model.named_parameters()}
    assert {name for name, dtype in types.items() if dtype == torch.float32} == {
        name for name in types if name.startswith(layers[layer])
    }
    passed = batch.half(model)
    assert passed.broken is None
    exact, rows = batch.drift(build(checkpoint), passed)
    assert max(row.drift for row in rows.values()) < 3e-2
    assert rows[layer].largest > 65504
    for name, value in exact.items():
        # No norm stands behind the projector, so what it gives is as large as the weights are.
        scale = float(value.abs().max()) if layer == "projector" else 1.0
        torch.testing.assert_close(passed.outputs[name] / scale, value / scale, atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_has_weights_of_its_own(tmp_path: Path, family: str) -> None:
    for (other, *case), write in ladder.MADE.items():
        if other == family:
            checkpoint = open_checkpoint(write(tmp_path / "-".join(case)))
            names, spec = [*checkpoint.slices], spec_of(checkpoint)
            graphs = {graph.name for graph in spec.graphs}  # a language model's cost stands in none
            assert [layer.name for layer in spec.layers if layer.graph in graphs and not layer.weights] == []
            for layer, starts in spec.weights().items():
                assert any(name.startswith(starts) for name in names), layer
            owners = [[la for la, starts in spec.weights().items() if name.startswith(starts)] for name in names]
            assert max(map(len, owners)) == 1


def test_an_export_that_overflows_is_refused_and_one_that_keeps_the_layer_is_not(tmp_path: Path) -> None:
    folder = tower(tmp_path / "dense")
    with pytest.raises(VerificationError, match=r"vision\.1 leaves the range of float16.*--keep-float32 vision\.1"):
        export_folder(folder, dtype="float16")
    assert left(folder) == []
    (tmp_path / "r.yaml").write_text(
        "recipe: 1\nmodel: siglip\nreduce:\n- {at: vision.0-2, merge: {image: 0.2, by: tome}}\n"
        "export: {dtype: float16, keep_float32: [vision.1]}\n"
    )
    apply(folder, tmp_path / "r.yaml", tmp_path / "out")
    report = export_folder(tmp_path / "out")
    assert report["keep_float32"] == ["vision.1"]
    cost = report["verification"]["half_precision"]
    assert cost["cosine"] > 0.999
    assert [*cost["layers"]] == ["patches", *(f"vision.{i}" for i in range(4)), "image_head"]
    assert cost["layers"]["vision.1"]["largest"] > 65504
    assert cost["first_beyond_tolerance"] is None
    told = json.loads((tmp_path / "out" / "image.onnx.json").read_text())
    assert (told["dtype"], told["keep_float32"]) == ("float16", ["vision.1"])
    assert export_folder(tmp_path / "out")["there_already"]
    assert "half_precision" in verify_export(tmp_path / "out")["verification"]
    with pytest.raises(InputError, match="its keep_float32 is"):
        export_folder(tmp_path / "out", keep_float32=["vision.1", "image_head"])
    eager, served = load(tmp_path / "out", dtype="float16"), open_runtime(tmp_path / "out" / "image.onnx", device="cpu")
    assert eager.vision_model.encoder.layers[1].mlp.fc2.weight.dtype == torch.float32
    assert eager.vision_model.encoder.layers[2].mlp.fc2.weight.dtype == torch.float16
    pixels = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        torch.testing.assert_close(
            served(pixels), eager(pixels.half()).outputs["pooler_output"].float(), atol=3e-2, rtol=3e-2
        )


def test_an_engine_is_built_of_both_types(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    settings = EngineSettings("tensorrt-rtx", compute_capabilities=("8.9",))
    folder, how = tower(tmp_path / "dense"), {"dtype": "float16", "keep_float32": ["vision.1"]}
    report = export_folder(folder, trt=settings, **how)
    assert report["engine"]["bytes"] > 10_000
    assert json.loads((folder / "image.engine.json").read_text())["keep_float32"] == ["vision.1"]
    with pytest.raises(InputError, match=r"opset 23's attention in float32; export without keeping vision\.1 in it"):
        export_folder(folder, trt=settings, opset=23, **how)


@pytest.mark.parametrize("family", ["vilt", "bridgetower", "siglip"])
def test_streams_of_both_types_are_exported(tmp_path: Path, family: str) -> None:
    """Text and picture meet, and are reduced (SigLIP's by the probe of its head), where one of them comes from a layer
    in float32."""
    source = ladder.MADE[family, LOUD[family][0]](tmp_path / "dense")
    apply(source, ladder.recipe(source, tmp_path / "r.yaml", 0.1), tmp_path / "out")
    names = {"vilt": ["encoder.1"], "bridgetower": ["text.0", "fusion.0"], "siglip": ["vision.0"]}[family]
    report = export_folder(tmp_path / "out", dtype="float16", keep_float32=names)
    report = report.get("graphs", {}).get("image", report)
    assert report["keep_float32"] == names
    assert report["verification"]["half_precision"]["error"] < 3e-2


def test_weights_beyond_the_type_can_be_kept(tmp_path: Path) -> None:
    folder = tiny_siglip.write(tmp_path / "dense")
    louder(folder, r"vision_model\..*1\.mlp\.fc2\.bias", lambda bias: bias + 1e5)
    with pytest.raises(InputError, match=r"in float16 some of .* are infinite; .*keep_float32: \[vision\.1\]"):
        load(folder, dtype="float16")
    with torch.no_grad():
        found = load(folder, dtype="float16", keep_float32=["vision.1"])(torch.randn(1, 3, 48, 48)).outputs
    assert bool(found["image_embeds"].isfinite().all())


def test_scores_of_attention_that_overflow_are_seen(tmp_path: Path) -> None:
    """torch's own kernels would not overflow there, and graphs do."""

    def sharp(folder: Path) -> Path:
        made = tiny_siglip.write(folder, "SiglipVisionModel")
        return louder(made, r"encoder\.layers\.2\.self_attn\.[qk]_proj\.weight", lambda weights: weights * 300)

    with pytest.raises(VerificationError, match=r"vision\.2 leaves the range of float16.*--keep-float32 vision\.2 *,"):
        export_folder(sharp(tmp_path / "dense"), dtype="float16")


def test_bfloat16_is_judged_by_eager(tmp_path: Path) -> None:
    folder = tower(tmp_path / "dense")
    report = export_folder(folder, dtype="bfloat16")  # whose range is float32's
    cost = report["verification"]["half_precision"]
    assert cost["judge"].startswith("eager bfloat16 beside eager float32 (ONNX Runtime's CPU has no bfloat16")
    assert 1e-3 < cost["error"] < 0.2


def test_the_first_layer_that_leaves_the_tolerance_is_named(tmp_path: Path) -> None:
    """Numbers that cancel each other: float16 holds them, and loses all that differs beside them."""

    def shifted(folder: Path) -> Path:
        made = tiny_siglip.write(folder, "SiglipVisionModel")
        for layer, by in ((1, 3e4), (2, -3e4)):
            louder(made, rf"layers\.{layer}\.mlp\.fc2\.bias", lambda bias, by=by: bias + by)
        return made

    folder = shifted(tmp_path / "dense")
    with pytest.raises(VerificationError, match=r"vision\.2 is the first layer to leave that; keep vision\.1 and "):
        export_folder(folder, dtype="float16")
    assert left(folder) == []
    report = export_folder(folder, dtype="float16", keep_float32="vision.1-2")
    assert report["keep_float32"] == ["vision.1", "vision.2"]
    assert report["verification"]["half_precision"]["cosine"] > 0.999


def test_a_layer_that_is_not_there_is_refused_with_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_siglip.write(tmp_path / "dense", "SiglipVisionModel")
    recipe, head = tmp_path / "r.yaml", "recipe: 1\nmodel: siglip\nreduce:\n- {at: vision.1, merge: {image: 0.1}}\n"
    for text, says in (
        (
            "export:\n  keep_float32: vision.9\n",
            r"r\.yaml:5: export\.keep_float32: .*no layer 'vision\.9'; it has patches",
        ),
        ("export: {keep_float32: [imagehead]}\n", r"Did you mean 'image_head'\?"),
        ("export: {keep_float32: [vision.3-1]}\n", r"r\.yaml:5: export\.keep_float32 has 3-1, which runs backwards"),
        ("export: {keep_float32: {vision: 1}}\n", r"r\.yaml:5: export\.keep_float32 cannot be a list or mapping"),
    ):
        recipe.write_text(head + text)
        with pytest.raises(InputError, match=says):
            apply(folder, recipe, tmp_path / "out")
    for options, says in (
        (("--keep-float32", "vision.7", "--dtype", "float16"), "no layer 'vision.7'"),
        (("--keep-float32", "vision.2-1", "--dtype", "float16"), "runs backwards"),
        (("--keep-float32", "vision.1"), "this one is in float32"),
    ):
        code, words = run(monkeypatch, capsys, "export", folder, *options)
        assert (code, says in words, "Traceback" in words) == (2, True, False), words
    assert left(folder) == []


def test_names_for_a_reader() -> None:
    names = ["patches", "vision.0", "vision.1", "vision.3", "link.1", "link.2", "head"]
    assert in_ranges(names) == ["patches", "vision.0-1", "vision.3", "link.1-2", "head"]
