"""The vision part of a LLaVA is what transformers computes; nothing of its language model is read."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny_llava
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_clip import edit
from transformers import LlavaForConditionalGeneration
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from pumer_convert import Pipeline
from pumer_convert.amount import Amount
from pumer_convert.benchmark.reducer_cost import strip_reducers
from pumer_convert.checkpoint.read import check_complete, open_checkpoint
from pumer_convert.cli import cli
from pumer_convert.cli.output import plan_table
from pumer_convert.convert.apply import apply, prepare_apply
from pumer_convert.convert.inspect import inspect
from pumer_convert.convert.load import load
from pumer_convert.convert.plan import make_plan
from pumer_convert.errors import InputError
from pumer_convert.export.folder import export_folder
from pumer_convert.export.tensorrt import EngineSettings
from pumer_convert.models.family import family_of
from pumer_convert.reducers.base import Guide
from pumer_convert.reducers.divprune import DivPruneReducer
from pumer_convert.runtime import open_runtime
from pumer_convert.tokens import Tokens

EXACT = {"float32": 1e-5, "float64": 1e-9}
FORMS: dict[str, dict[str, Any]] = {
    "as published": {},
    "every token": {"vision_feature_select_strategy": "full"},
    "last layer": {"vision_feature_layer": -1},
    "several layers": {"vision_feature_layer": [-2, 1, 3]},
    "before any block": {"vision_feature_layer": [0]},
    "other projector": {"projector_hidden_act": "relu", "multimodal_projector_bias": False},
    "SigLIP": {"tower": "siglip", "vision_feature_layer": -1, "vision_feature_select_strategy": "full"},
    "SigLIP without its first patch": {"tower": "siglip", "vision_feature_layer": [0, -2]},
}

PROJECTOR = "  - {at: projector, prune: {image: {keep: 9}, by: cls_attention}}\n"
RECIPE = f"recipe: 1\nmodel: llava\nreduce:\n  - {{at: vision.1, merge: {{image: 0.2, by: pitome}}}}\n{PROJECTOR}"
TWICE = RECIPE.replace("0.2, by: pitome", "0.9, by: tome").replace(
    "prune: {image: {keep: 9}", "merge: {image: 0.7}, prune: {image: 0.1"
)
"""Merging as many as can be, twice."""


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def pixels(dtype: str = "float32") -> torch.Tensor:
    return torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(1)).to(getattr(torch, dtype))


def theirs(folder: Path, dtype: str = "float32") -> torch.Tensor:
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    return torch.stack(list(model.get_image_features(pixel_values=pixels(dtype)).pooler_output))


def close(found: torch.Tensor, expected: torch.Tensor, share: float) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max() / expected.abs().max()) < share


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("form", FORMS)
def test_dense_is_transformers(form: str, dtype: str, tmp_path: Path) -> None:
    folder = tiny_llava.write(tmp_path / "dense", **FORMS[form])
    found = load(folder, dtype=dtype)(pixels(dtype)).outputs["image_features"]
    close(found, theirs(folder, dtype), EXACT[dtype])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}


def rewritten(folder: Path, names: Callable[[str], str], **changes: torch.Tensor) -> Path:
    """The folder with the weights under other names, and some of them changed."""
    found = {names(name): value for name, value in (weights(folder) | changes).items()}
    save_file(found, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("names", ["older", "in memory"])
def test_names_of_before_and_of_the_class_in_memory_are_read(names: str, tmp_path: Path) -> None:
    def older(name: str) -> str:
        return name.replace("vision_tower.", "vision_tower.vision_model.")

    def in_memory(name: str) -> str:
        plain = name.replace("language_model.model.", "language_model.").removeprefix("model.")
        return plain.replace("language_model.", "") if "lm_head" in plain else f"model.{plain}"

    folder = tiny_llava.write(tmp_path / "dense")
    expected = theirs(folder)
    rewritten(folder, older if names == "older" else in_memory)
    if names == "older":  # as published, with what older versions of the tower's class saved beside it
        rewritten(folder, str, **{"vision_tower.vision_model.embeddings.position_ids": torch.arange(37)[None]})
    close(load(folder)(pixels()).outputs["image_features"], expected, 1e-5)


def test_a_picture_becomes_what_the_classes_of_transformers_make_of_it(tmp_path: Path) -> None:
    folder = tiny_llava.write(tmp_path / "dense")
    file = tmp_path / "p.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (70, 100, 3), np.uint8)).save(file)
    values = LlavaImageProcessorPil.from_pretrained(folder)(Image.open(file), return_tensors="pt")
    model = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    (expected,) = model.get_image_features(pixel_values=values["pixel_values"]).pooler_output
    pipeline = Pipeline(folder)
    found = pipeline.embed_images([file, file])
    assert found.shape == (2, 36, 48)
    close(torch.from_numpy(found[1]), expected, 1e-5)
    for asked in (
        lambda: pipeline.classify(file, ["a"]),
        lambda: pipeline(file, "a"),
        lambda: pipeline.search("a", found),
    ):
        with pytest.raises(InputError, match="gives tokens for a language model to read"):
            asked()


def test_nothing_of_the_language_model_is_read_and_nothing_of_it_written(tmp_path: Path) -> None:
    folder = tiny_llava.write(tmp_path / "dense")
    (name,) = {name for name in weights(folder) if name.endswith("lm_head.weight")}
    rewritten(folder, str, **{name: torch.full((99, 48), torch.nan)})
    recipe = tmp_path / "r.yaml"
    recipe.write_text(RECIPE)
    report = apply(folder, recipe, tmp_path / "out")
    assert {name.split(".")[0] for name in weights(tmp_path / "out")} == {"vision_tower", "multi_modal_projector"}
    assert not [name for name in weights(tmp_path / "out") if ".layers.3." in name or "post_layernorm" in name]
    (note,) = report["notes"]
    assert "the vision part alone" in note
    assert note in (tmp_path / "out" / "README.md").read_text()
    assert report["source"]["path"] == str(folder)
    inspection = inspect(tmp_path / "out")
    assert (inspection.origin, inspection.reduced_at) == ("pumer-convert folder", ("vision.1", "projector"))


LARGE = """
import json, resource, struct, sys
from pathlib import Path
from pumer_convert.convert.apply import apply
folder = Path(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
apply(folder, folder.parent / "r.yaml", folder.parent / "out")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_checkpoint_of_many_gigabytes_is_converted_in_the_memory_of_its_vision_part(tmp_path: Path) -> None:
    folder = tiny_llava.write(tmp_path / "dense")
    rest = {"dtype": "F16", "shape": [4096, 2**21], "data_offsets": [0, 2**34]}
    head = json.dumps({"language_model.model.embed_tokens.weight": rest}).encode()
    where = {
        **dict.fromkeys((name for name in weights(folder) if not name.startswith("language_model")), "a.safetensors"),
        "language_model.model.embed_tokens.weight": "b.safetensors",
    }
    save_file(
        {name: weights(folder)[name] for name in where if name in weights(folder) and "embed_tokens" not in name},
        folder / "a.safetensors",
    )
    with (folder / "b.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        file.truncate(8 + len(head) + 2**34)  # no block of it is on the disk
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    (tmp_path / "r.yaml").write_text(RECIPE)
    found = subprocess.run(
        [sys.executable, "-c", LARGE, str(folder)], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert int(found.stdout) < 600_000, "kB, most of them torch's code"
    assert (tmp_path / "out" / "model.safetensors").stat().st_size < 2**20


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"vision_feature_layer": -6},
            "vision_feature_layer is -6 in its config; allowed: a whole number from -5 to 4",
        ),
        ({"vision_feature_layer": []}, "vision_feature_layer is "),
        ({"vision_feature_layer": "last"}, "vision_feature_layer is "),
        ({"vision_feature_select_strategy": "cls"}, "vision_feature_select_strategy is .*allowed: default, full"),
        (
            {"vision_config": {"model_type": "pixtral"}},
            "towers that are read are clip_vision_model, siglip_vision_model",
        ),
        ({"text_config": {"model_type": "phi"}}, "text_config.hidden_size is null .* 'phi' it has to be there"),
        ({"architectures": ["LlavaLlamaForCausalLM"]}, "architectures is .*LlavaForConditionalGeneration"),
        ({"image_grid_pinpoints": [[336, 672]]}, "image_grid_pinpoints .* that key is not known here"),
        ({"projector_hidden_act": "prelu"}, "projector_hidden_act is "),
        ({"text_config": {"hidden_size": 40}}, "the weights do not fit the config"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    folder = tiny_llava.write(tmp_path / "dense")
    edit(folder, lambda values: values.update(change))
    with pytest.raises(InputError, match=says):
        check_complete(open_checkpoint(folder))


def test_a_quantized_language_model_is_none_of_its_business(tmp_path: Path) -> None:
    folder = tiny_llava.write(tmp_path / "dense")
    expected = theirs(folder)
    edit(folder, lambda values: values.update(quantization_config={"quant_method": "awq", "bits": 4}))
    close(load(folder)(pixels()).outputs["image_features"], expected, 1e-5)


@pytest.mark.parametrize("recipe", ["RECIPE", "TWICE"])
@pytest.mark.parametrize("form", ["as published", "every token", "several layers", "SigLIP"])
def test_the_plan_and_the_port_tell_how_many_tokens_there_are(form: str, recipe: str, tmp_path: Path) -> None:
    folder = tiny_llava.write(tmp_path / "dense", **FORMS[form])
    text = {"RECIPE": RECIPE, "TWICE": TWICE}[recipe]
    if form in ("several layers", "SigLIP"):  # no block that all states have run through; no CLS
        text = (
            text.replace("vision.1", "vision.0") if form == "SigLIP" else text.split("  - {at: vision")[0] + PROJECTOR
        )
        text = text.replace("cls_attention", "random") if form == "SigLIP" else text
    (tmp_path / "r.yaml").write_text(text)
    apply(folder, tmp_path / "r.yaml", tmp_path / "out")
    found = load(tmp_path / "out")(pixels())
    checkpoint = open_checkpoint(tmp_path / "out")
    (port,) = family_of("llava").spec(checkpoint.config).graphs[0].outputs
    assert port.sized({"batch": 3}) == found.outputs["image_features"].shape
    assert inspect(checkpoint).plan.rows[-1].image_in == port.shape[1] < 36


def test_a_7b_costs_what_is_known_of_it() -> None:
    """The figures that were counted by hand for LLaVA-1.5-7B at 576 + 64 tokens."""
    family = family_of("llava")
    spec = family.spec(family.checked({"model_type": "llava", "text_config": {"model_type": "llama"}}, "here"))
    plan = make_plan(spec, (), 64)
    assert spec.sites == (*(f"vision.{i}" for i in range(22)), "projector")
    costs = {name: round(dense / 1e9) for name, (dense, _) in plan.parts.items()}
    assert costs == {"tower": 183, "projector": 12, "language model": 4252}


def test_run_tells_what_a_picture_becomes(tmp_path: Path) -> None:
    folder = tiny_llava.write(tmp_path / "dense")
    Image.new("RGB", (60, 50)).save(tmp_path / "p.png")
    words = ["run", str(folder), "--image", str(tmp_path / "p.png")]
    found = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert found.stdout == f"image_features: 36 tokens of 48 numbers, {tmp_path / 'p.png'}\n"
    found = CliRunner().invoke(cli, [*words, "--text", "what is it"])
    assert found.exit_code != 0
    assert "leave --text and --label out" in str(found.exception)


def test_a_recipe_that_leaves_the_largest_part_as_it_is_says_so(tmp_path: Path) -> None:
    folder = tiny_llava.write(tmp_path / "dense")
    (tmp_path / "r.yaml").write_text(
        "recipe: 1\nmodel: llava\nreduce:\n  - {at: projector, prune: {image: {keep: 30}, by: random}}\n"
    )
    plan = prepare_apply(folder, tmp_path / "r.yaml", text_length=2).plan
    told = plan_table(plan).splitlines()
    assert told[-2].startswith("of the dense cost: tower ")
    assert told[-1] == "note: most of the cost is the tower's, which this recipe leaves as it is"


@pytest.mark.parametrize("by", ["cls_attention", "uniform", "divprune", "cdpruner", "prumerge", "visionzip"])
def test_what_the_projector_lets_through_is_exported_and_built(by: str, tmp_path: Path) -> None:
    folder = tiny_llava.write(
        tmp_path / "dense", vision_feature_select_strategy="full" if by == "uniform" else "default"
    )
    (tmp_path / "r.yaml").write_text(RECIPE.replace("cls_attention", by))
    apply(folder, tmp_path / "r.yaml", out := tmp_path / "out")
    report = export_folder(out, dtype="float32")
    assert report["verification"]["decisions_that_differ"] == 0
    inputs = {"pixel_values": pixels().numpy()}
    found = open_runtime(out / "vision.onnx", device="cpu").run(inputs)["image_features"]
    assert found.shape == (3, 9, 48)
    output = load(out)(pixels())
    close(torch.from_numpy(found), output.outputs["image_features"], 1e-4)
    kept = output.trace.taken["projector/prune.image"]
    kept = kept[:, :-1, 0] if by == "prumerge" else kept  # the last token is a sum
    assert by == "visionzip" or torch.equal(kept, kept.sort(1).values), "in the order of their places"
    free = strip_reducers(out / "vision.onnx")
    assert free is not None
    assert "Loop" not in {node.op_type for f in onnx.load_from_string(free).functions for node in f.node}
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    rtx = EngineSettings("tensorrt-rtx", compute_capabilities=("8.9",))
    report = export_folder(out, tmp_path / "half", trt=rtx, dtype="float16")
    assert report["engine"]["bytes"] > 0
    if by == "divprune":
        with pytest.raises(InputError, match=r"opset 23's attention beside the loop of divprune; export at opset 20"):
            export_folder(out, tmp_path / "fused", trt=rtx, dtype="float16", opset=23)


def test_divprune_stands_behind_a_projector_alone(tmp_path: Path) -> None:
    folder = tiny_llava.write(tmp_path / "dense")
    (tmp_path / "r.yaml").write_text(
        RECIPE.replace("merge: {image: 0.2, by: pitome}", "prune: {image: {drop: 4}, by: divprune}")
    )
    with pytest.raises(InputError, match=r"'divprune' at vision\.1, which gives nothing to a language model; allowed"):
        prepare_apply(folder, tmp_path / "r.yaml")


def test_divprune_chooses_by_what_the_projector_gives(tmp_path: Path) -> None:
    folder = tiny_llava.write(tmp_path / "dense")
    (tmp_path / "r.yaml").write_text(
        f"recipe: 1\nmodel: llava\nreduce:\n{PROJECTOR.replace('cls_attention', 'divprune')}"
    )
    apply(folder, tmp_path / "r.yaml", tmp_path / "out")
    dense, found = theirs(folder), load(tmp_path / "out")(pixels())
    alone = Tokens.start(dense, torch.ones(3, 36, dtype=torch.bool)).with_keys(dense)
    expected = DivPruneReducer(Amount(keep=9))(alone, Guide(alone.mask))
    assert torch.equal(found.trace.taken["projector/prune.image"], expected.decision)
    close(found.outputs["image_features"], expected.tokens.states, 1e-5)
