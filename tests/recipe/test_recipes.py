"""Every file in recipes/: loaded, planned, applied, exported and built into an engine; and gradients."""

import json
from pathlib import Path

import onnx
import pytest
import random_checkpoint
import saved_bridgetower
import tiny
import tiny_clip
import tiny_gemmas
import tiny_internvl
import tiny_llava
import tiny_siglip
import tiny_tiles
import torch

from pumer_convert.convert.apply import apply, prepare_apply
from pumer_convert.convert.load import load
from pumer_convert.export.folder import export_folder
from pumer_convert.export.tensorrt import EngineSettings
from pumer_convert.recipe.schema import load_recipe

ALIKE = (
    *("vilt", "vilt-nlvr2", "vilt-ve", "meter", "meter-nlvr2", "meter-ve", "meter-faster", "bridgetower-fast", "clip"),
    *("clip-large", "clip-large-fast", "siglip", "siglip-large", "siglip-large-fast", "llava-fast"),
    *("paligemma", "gemma3", "internvl", "idefics3", "idefics3-fast", "smolvlm", "llava_onevision"),
)
"""These differ from another one in sites and numbers alone."""
RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


def checkpoint(folder: Path, model: str, task: str | None, depth: int | None = None) -> Path:
    """A tiny original checkpoint for the recipe; its heads have the published number of tokens to reduce."""
    if model == "bridgetower":
        saved_bridgetower.write(folder / "tiny", task or "retrieval", layers=(depth or 1) + 3, fusion=4)
        return folder / "tiny"
    if model == "clip":
        sizes = {"image_size": 112, "num_hidden_layers": depth or 4}
        return tiny_clip.write(folder / "tiny", vision=sizes)
    if model == "siglip":
        sizes = {"image_size": 112, "num_hidden_layers": depth or 4}
        return tiny_siglip.write(folder / "tiny", vision=sizes)
    if model == "llava":  # the last block is not used, and the one before it no site
        sizes = {"image_size": 112, "num_hidden_layers": (depth or 1) + 2}
        return tiny_llava.write(folder / "tiny", vision=sizes)
    if model == "llava_onevision":
        sizes = {"image_size": 112, "num_hidden_layers": (depth or 1) + 1}
        return tiny_llava.write_onevision(folder / "tiny", vision=sizes)
    if model in ("paligemma", "gemma3", "internvl"):
        write, more = {
            "paligemma": (tiny_gemmas.write_paligemma, {}),
            "gemma3": (tiny_gemmas.write_gemma3, {"mm_tokens_per_image": 49}),
            "internvl": (tiny_internvl.write, {}),
        }[model]
        return write(folder / "tiny", vision={"image_size": 112, "num_hidden_layers": (depth or 1) + 1}, **more)
    if model in tiny_tiles.KINDS:
        sizes = {"image_size": 112, "num_hidden_layers": (depth or 1) + 1}
        return tiny_tiles.write(folder / "tiny", model, vision=sizes, scale_factor=2)
    return random_checkpoint.write(folder / "tiny.ckpt", model, "original", task or "vqa", depth=depth)


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem in ALIKE)) for path in RECIPES],
)
def test_every_recipe_is_applied_exported_and_built(tmp_path: Path, path: Path) -> None:
    recipe = load_recipe(path)
    tower = "encoder." if recipe.model == "vilt" else "vision."
    sites = [site for step in recipe.steps for site in step.sites]
    deepest = max((int(site.removeprefix(tower)) for site in sites if site.startswith(tower)), default=0)
    source = checkpoint(tmp_path, recipe.model, recipe.task, depth=deepest + 1)
    plan = prepare_apply(source, path).plan
    assert plan.ratio > 1
    out = tmp_path / "out"
    report = apply(source, path, out)
    assert (out / "recipe.yaml").read_text() == path.read_text()
    assert [edit["at"] for edit in report["plan"]["edits"]] == sites
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    result = export_folder(out, trt=EngineSettings("tensorrt-rtx", compute_capabilities=("8.9",)), dtype="float16")
    for name, graph in result.get("graphs", {result.get("graph"): result}).items():
        assert graph["verification"]["worst_slack"] <= 3e-2
        model = onnx.load(out / f"{name}.onnx")
        kinds = {node.op_type for part in (model.graph, *model.functions) for node in part.node}
        assert not any("Scatter" in kind for kind in kinds)
        sidecar = json.loads((out / f"{name}.engine.json").read_text())
        assert (out / f"{name}.engine").stat().st_size == sidecar["engine"]["bytes"] == graph["engine"]["bytes"]
        assert sidecar["engine"]["bytes"] > 100_000
        assert sidecar["compute_capabilities"] == ["8.9"]
        lengths = {"clip": (2, 16, 77), "siglip": (16, 16, 16)}.get(recipe.model, (4, 32, 40))
        wanted = [[batch, length] for batch, length in zip((1, 1, 8), lengths, strict=True)]
        assert sidecar["profiles"][0].get("input_ids", wanted) == wanted
        assert ("input_ids" in sidecar["profiles"][0]) == (name not in ("image", "vision"))


@pytest.mark.parametrize("task", random_checkpoint.TASKS)
@pytest.mark.parametrize("model", random_checkpoint.FORMATS)
def test_gradients_reach_every_parameter(tmp_path: Path, model: str, task: str) -> None:
    source = checkpoint(tmp_path, model, task)
    site = {"vilt": "encoder.1,3,5", "meter": "fusion.0-2"}[model]
    early = {"vilt": ("encoder.0", "encoder.2"), "meter": ("vision.1-3", "vision.5")}[model]
    body = f"  - at: {site}\n    prune: {{image: 0.2}}\n    merge: {{image: 0.3, text: 0.2}}\n"
    for place, by in zip(early, ("pitome", "tome"), strict=True):
        body += f"  - at: {place}\n    prune: {{image: 2 tokens, by: cls_attention}}\n"
        body += f"    merge: {{image: 0.1, by: {by}}}\n"
    network = load(apply_recipe(tmp_path, model, source, body))
    side, images = network.image_size[0], network.images
    shape = (2, 2, 3, side, side) if images > 1 else (2, 3, side, side)
    inputs = tiny.batch(rows=2, text=12) | {"pixel_values": torch.randn(shape)}
    output = network(**inputs)
    assert output.image.states.shape[1] < network(**inputs).image.source.shape[1]
    output.logits.square().sum().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not without


def apply_recipe(folder: Path, model: str, source: Path, body: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(f"recipe: 1\nmodel: {model}\nreduce:\n{body}")
    apply(source, path, folder / "out")
    return folder / "out"
