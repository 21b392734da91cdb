"""Tokens that merge in a tower come back at their places before the projector: the shapes of dense, for any runtime."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_dinov2
import tiny_gemmas
import tiny_internvl
import tiny_llava
import tiny_tiles
import torch
from tiny_clip import edit

from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.apply import apply, prepare_apply
from pumer_convert.convert.inspect import inspect
from pumer_convert.convert.load import load
from pumer_convert.errors import InputError
from pumer_convert.export.folder import export_folder
from pumer_convert.export.tensorrt import EngineSettings
from pumer_convert.models.family import family_of
from pumer_convert.runtime import open_runtime

KINDS: dict[str, tuple[Callable[..., Path], dict[str, Any]]] = {
    "llava": (tiny_llava.write, {}),
    "paligemma": (tiny_gemmas.write_paligemma, {}),
    "gemma3": (tiny_gemmas.write_gemma3, {}),
    "internvl": (tiny_internvl.write, {}),
    "llava_onevision": (tiny_llava.write_onevision, {}),
    "idefics3": (tiny_tiles.write, {"scale_factor": 2}),
    "smolvlm": (tiny_tiles.write_smolvlm, {"scale_factor": 2}),
}
GRIDDED = {"gemma3": (3, 9, 64), "internvl": (3, 9, 256), "idefics3": (3, 9, 256), "smolvlm": (3, 9, 256)}
"""Of those whose projector takes squares of patches what it takes."""


def recipe(model: str, *steps: str) -> str:
    return f"recipe: 1\nmodel: {model}\nreduce:\n" + "".join(f"  - {{{step}}}\n" for step in steps)


def merging(share: float, by: str = "tome") -> str:
    return f"at: vision.0-1, merge: {{image: {share}, by: {by}}}, unmerge: before_projector"


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def pixels(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(1)).to(dtype)


def reduced(folder: Path, model: str, *steps: str, **options: Any) -> Path:
    write, own = KINDS[model]
    write(folder / "dense", **own, **options)
    (folder / "r.yaml").write_text(recipe(model, *steps))
    apply(folder / "dense", folder / "r.yaml", folder / "out")
    return folder / "out"


def close(found: torch.Tensor, expected: torch.Tensor, share: float) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max() / expected.abs().max()) < share


@pytest.mark.parametrize("model", KINDS)
def test_what_goes_out_has_the_shape_of_dense_and_is_exported(model: str, tmp_path: Path) -> None:
    out = reduced(tmp_path, model, merging(0.2))
    dense, found = load(tmp_path / "dense")(pixels()), load(out)(pixels())
    assert found.outputs["image_features"].shape == dense.outputs["image_features"].shape
    assert not torch.allclose(found.outputs["image_features"], dense.outputs["image_features"], atol=1e-3)
    family = family_of(model)
    ports = [family.spec(open_checkpoint(folder).config).graphs[0].outputs for folder in (tmp_path / "dense", out)]
    assert ports[0] == ports[1]
    report = export_folder(out, dtype="float32")
    assert report["verification"]["decisions_that_differ"] == 0
    given = open_runtime(out / "vision.onnx", device="cpu").run({"pixel_values": pixels().numpy()})["image_features"]
    close(torch.from_numpy(given), found.outputs["image_features"], 1e-5)


@pytest.mark.parametrize("model", KINDS)
def test_every_place_gets_the_token_that_its_own_merged_into(model: str, tmp_path: Path) -> None:
    """The features of a LLaVA or PaliGemma at places that merged are the same; of others they differ."""
    out = reduced(tmp_path, model, merging(0.3))
    network = load(out)
    seen: list[torch.Tensor] = []
    network.multi_modal_projector.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    network(pixels())
    if model in GRIDDED:
        assert seen[0].shape == GRIDDED[model]
        return
    assert seen[0].shape == (3, 36, 64)
    assert all(len(example.unique(dim=0)) < 36 for example in seen[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("model", KINDS)
def test_merging_what_is_alike_changes_nothing(model: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """A picture of one colour in a tower without positions has patches that are all alike."""
    out = reduced(tmp_path, model, merging(0.5), dtype=dtype)
    flat = torch.ones(2, 3, 48, 48, dtype=dtype) * torch.tensor([0.3, -1.2], dtype=dtype)[:, None, None, None]
    networks = [load(folder, dtype=str(dtype).removeprefix("torch.")) for folder in (tmp_path / "dense", out)]
    for network in networks:
        table = dict(network.named_parameters())[family_of(model).positions].view(-1, 64)
        table[-36:] = table[-36:].mean(0)
    dense, found = (network(flat).outputs["image_features"] for network in networks)
    assert len(networks[1](flat).trace.taken) == 2
    close(found, dense, 1e-9 if dtype == torch.float64 and model != "gemma3" else 1e-5)


@pytest.mark.parametrize("model", KINDS)
def test_a_projector_chooses_among_all_places(model: str, tmp_path: Path) -> None:
    keep = "at: projector, prune: {image: {keep: 5}, by: divprune}"
    found = load(reduced(tmp_path, model, merging(0.2), keep))(pixels())
    assert found.outputs["image_features"].shape == (3, 5, 48)


def test_the_plan_counts_the_places_again(tmp_path: Path) -> None:
    out = reduced(tmp_path, "gemma3", merging(0.5))
    rows = {row.layer: row for row in inspect(out).plan.rows}
    assert (rows["vision.1"].image_in, rows["vision.1"].image_out, rows["vision.2"].image_in) == (18, 9, 9)
    assert (rows["projector"].image_in, rows["language_model"].image_in) == (9, 9)
    plain = reduced(tmp_path / "other", "paligemma", merging(0.5))
    rows = {row.layer: row for row in inspect(plain).plan.rows}
    assert (rows["vision.3"].image_in, rows["projector"].image_in, rows["language_model"].image_in) == (9, 36, 36)


@pytest.mark.parametrize(
    ("model", "steps", "says"),
    [
        ("gemma3", ["at: vision.0, merge: {image: 0.2}"], "4: unmerge: what follows vision.0 takes every place of"),
        ("idefics3", ["at: vision.0, merge: {image: 0.2}"], "4: unmerge: what follows vision.0 takes every place of"),
        ("gemma3", ["at: vision.0, prune: {image: 0.2, by: random}"], "4: unmerge: what follows vision.0 takes every"),
        (
            "llava",
            ["at: vision.0, prune: {image: 0.2, by: random}, unmerge: before_projector"],
            "4: unmerge: what is pruned at vision.0 has no token to come back as",
        ),
        (
            "llava",
            ["at: vision.1, merge: {image: 0.2}, unmerge: before_projector", "at: vision.0, merge: {image: 0.2}"],
            "5: unmerge: vision.1 says it, and vision.0 does not; say it at every site of the tower, or nowhere",
        ),
        (
            "paligemma",
            ["at: projector, merge: {image: 0.2}, unmerge: before_projector"],
            "4: unmerge: nothing behind projector takes tokens back at their places",
        ),
        (
            "llava",
            ["at: vision.0, merge: {image: 0.2}, unmerge: after"],
            "4: unmerge cannot be 'after'; allowed:",
        ),
    ],
)
def test_what_cannot_come_back_is_refused(model: str, steps: list[str], says: str, tmp_path: Path) -> None:
    write, options = KINDS[model]
    write(tmp_path / "dense", **options)
    (tmp_path / "r.yaml").write_text(recipe(model, *steps))
    with pytest.raises(InputError, match=says):
        prepare_apply(tmp_path / "dense", tmp_path / "r.yaml")


def test_a_folder_that_does_not_say_it_where_it_has_to_is_refused(tmp_path: Path) -> None:
    out = reduced(tmp_path, "gemma3", merging(0.2))
    edit(out, lambda values: values["pumer"]["edits"][0].pop("unmerge"))
    with pytest.raises(InputError, match=r"pumer\.edits\[0\]\.unmerge in its config is None, which that site has not"):
        open_checkpoint(out)
    edit(out, lambda values: values["pumer"]["edits"][0].update(unmerge="before_projector", until=3))
    with pytest.raises(InputError, match=r"pumer\.edits\[0\]\.until in its config is not known"):
        open_checkpoint(out)


def test_a_folder_that_prunes_what_is_to_come_back_is_refused(tmp_path: Path) -> None:
    out = reduced(tmp_path, "llava", merging(0.2))
    pruning = {"op": "prune", "modality": "image", "amount": {"share": "1/5"}, "by": "random"}
    edit(out, lambda values: values["pumer"]["edits"][0]["actions"].append(pruning))
    with pytest.raises(InputError, match=r"pumer\.edits\[0\] in its config is a prune whose tokens cannot come back"):
        open_checkpoint(out)


def test_what_can_be_ranked_can_merge(tmp_path: Path) -> None:
    sizes = {"image_size": 512, "num_hidden_layers": 2}
    tiny_gemmas.write_gemma3(tmp_path / "dense", vision=sizes, mm_tokens_per_image=256)
    for share, left in ((0.07, 3809), (0.03, None)):
        (tmp_path / "r.yaml").write_text(recipe("gemma3", merging(share).replace("0-1", "0")))
        if left is None:
            with pytest.raises(InputError, match="ranks 3973 image tokens, more than the 3840"):
                prepare_apply(tmp_path / "dense", tmp_path / "r.yaml")
        else:
            assert prepare_apply(tmp_path / "dense", tmp_path / "r.yaml").plan.rows[1].image_out == left


@pytest.mark.parametrize("model", ["gemma3", "internvl", "smolvlm", "dinov2"])
def test_engines_of_a_fixed_batch_know_where_tokens_went(model: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    (tiny_dinov2.write if model == "dinov2" else KINDS[model][0])(tmp_path / "dense")
    step = merging(0.2) if model != "dinov2" else "at: vision.0, merge: {image: 0.2}"
    fixed = "export: {dtype: float16, profiles: [{batch: [1, 1, 1]}]}\n"
    (tmp_path / "r.yaml").write_text(recipe(model, step) + fixed)
    apply(tmp_path / "dense", tmp_path / "r.yaml", tmp_path / "out")
    rtx = EngineSettings("tensorrt-rtx", compute_capabilities=("8.9",))
    report = export_folder(tmp_path / "out", trt=rtx)
    (graph,) = report.get("graphs", {"vision": report}).values()
    assert graph["engine"]["bytes"] > 0
