"""Distillation of vision parts of decoder VLMs: each token is taught what the dense part gives of the places in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_gemmas
import tiny_tiles
import torch
import torch.nn.functional as F
import whole_llava
from click.testing import CliRunner
from distilling import losses, same_weights
from in_place import handed
from registered import restore
from safetensors.torch import load_file
from tower_lessons import QUICK, alone, captions, pictures
from transformers import AutoModelForImageTextToText, LlavaForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

import pumer_convert
from pumer_convert.cli import cli
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.data.sample import Sample
from pumer_convert.errors import InputError
from pumer_convert.export.layouts.hf import export_hf
from pumer_convert.recipe.settings import Augment
from pumer_convert.tasks.batches import batches
from pumer_convert.tasks.towers import Task
from pumer_convert.training.work import WorkFolder

STEPS = {
    "pruned": "{at: vision.0-1, prune: {image: 0.4, by: cls_attention}}",
    "pruned twice": "{at: vision.0, prune: {image: 0.4, by: random}}, "
    "{at: projector, prune: {image: {keep: 9}, by: divprune}}",
    "summed up": "{at: projector, prune: {image: {keep: 9}, by: prumerge}}",
    "with contexts": "{at: projector, prune: {image: {keep: 9}, by: visionzip}}",
    "merged": "{at: vision.0-1, merge: {image: 0.3, by: pitome}}",
    "back at their places": "{at: vision.0-1, merge: {image: 0.3}, unmerge: before_projector}",
}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    yield
    restore()


def part(folder: Path, steps: str, model: str = "llava", more: str = "", **config: Any) -> Path:
    """The reduced vision part of a tiny whole model, which lies in `folder` / "dense"."""
    dense = folder / "dense"
    if not dense.exists():
        write = {"llava": whole_llava.write, "gemma3": tiny_gemmas.write_gemma3}[model]
        write(dense, **config)
    (folder / "r.yaml").write_text(f"recipe: 1\nmodel: {model}\n{more}reduce: [{steps}]\n")
    pumer_convert.apply(dense, folder / "r.yaml", folder / "part")
    return folder / "part"


def tokens(folder: Path, samples: list[Sample]) -> Any:
    """The tokens of the samples' pictures."""
    model, preprocessor = pumer_convert.load(folder), pumer_convert.Preprocessor.of(folder)
    pixels = np.stack([preprocessor.pixels(sample.pictures[0].open()) for sample in samples])
    with torch.no_grad():
        return model(torch.from_numpy(pixels)).image


def far(student: Path, dense: Path, samples: list[Sample]) -> float:
    """By place: the squared distance of tokens from the means of what the dense part gives of their places."""
    own, full = tokens(student, samples), tokens(dense, samples)
    shares = []
    for row in range(len(samples)):
        source, found = own.source[row], []
        for token in range(own.states.shape[1]):
            members = [int(full.source[row, place]) for place in (source == token).nonzero()[:, 0]]
            if members:
                target = full.states[row, members].mean(0)
                found.append(((own.states[row, token] - target).square().sum(), target.square().sum()))
        shares.append(float(sum(a for a, _ in found) / sum(b for _, b in found)))
    return float(np.mean(shares))


@pytest.mark.parametrize("steps", STEPS)
def test_a_student_comes_nearer_on_pictures_it_has_not_seen(tmp_path: Path, steps: str) -> None:
    student = part(tmp_path, STEPS[steps])
    samples = [Sample(p.path.name, (p,), "", None, p.path.name) for p in pictures(tmp_path / "pictures", 40)]
    train, held = samples[:32], samples[32:]
    settings = QUICK.replaced({"epochs": 5, "batch_size": 8, "keep": "last", "learning_rate": 5e-4})
    report = pumer_convert.distill(student, None, train, held, tmp_path / "out", settings)["distill"]
    before, after = (far(folder, tmp_path / "dense", held) for folder in (student, tmp_path / "out"))
    assert after < 0.97 * before, (before, after)
    assert losses(tmp_path / "out")[-1] < losses(tmp_path / "out")[0]
    assert [*report["validations"][0]["validation"]] == ["cosine"]
    assert report["notes"][0] == (
        "taught by pictures alone, for a language model reads what it gives: by the teacher's tokens."
    )
    assert report["notes"][1].startswith("trained: vision_tower, multi_modal_projector (")


def test_what_validates_is_the_cosine_to_the_targets(tmp_path: Path) -> None:
    student, samples = part(tmp_path, STEPS["back at their places"]), alone(tmp_path / "pictures")
    report = pumer_convert.distill(student, None, samples, samples, tmp_path / "out", QUICK)["distill"]
    own, full = tokens(tmp_path / "out", samples), tokens(tmp_path / "dense", samples)
    expected = float(F.cosine_similarity(own.states, full.states, dim=-1).mean())
    assert report["validations"][-1]["validation"]["cosine"] == pytest.approx(expected, abs=1e-5)


def test_gridded_projectors_are_taught_place_by_place(tmp_path: Path) -> None:
    student = part(tmp_path, STEPS["back at their places"], "gemma3")
    samples = alone(tmp_path / "pictures")
    settings = QUICK.replaced({"epochs": 6, "keep": "last"})
    pumer_convert.distill(student, None, samples, samples, tmp_path / "out", settings)
    found = {name: tokens(tmp_path / name, samples).states for name in ("dense", "part", "out")}
    assert found["out"].shape == (8, 9, 48)
    near = {name: F.mse_loss(found[name], found["dense"]) for name in ("part", "out")}
    assert near["out"] < 0.9 * near["part"]


@pytest.mark.parametrize("strategy", ["default", "full"])
def test_smaller_pictures_are_taught_the_means_of_their_parts(tmp_path: Path, strategy: str) -> None:
    student = part(tmp_path, "", more="image_size: 24\n", vision_feature_select_strategy=strategy)
    samples = alone(tmp_path / "pictures")
    pumer_convert.distill(student, None, samples, samples, tmp_path / "out", QUICK)
    report = pumer_convert.distill(student, None, samples, samples, tmp_path / "out", QUICK, overwrite=True)
    own, full = (tokens(tmp_path / name, samples).states for name in ("out", "dense"))
    first = int(strategy == "full")
    grid = full[:, first:].reshape(8, 3, 2, 3, 2, -1).mean((2, 4)).flatten(1, 2)
    expected = F.cosine_similarity(own, torch.cat([full[:, :first], grid], 1), dim=-1).mean()
    assert report["distill"]["validations"][-1]["validation"]["cosine"] == pytest.approx(float(expected), abs=1e-5)


def generated(folder: Path, model: Any, **more: Any) -> torch.Tensor:
    """What a model writes to two prompts."""
    asked = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": whole_llava.PAD, **more}
    with torch.no_grad():
        return model.generate(**whole_llava.inputs(folder), **asked)


@pytest.mark.parametrize(("steps", "size"), [("pruned twice", ""), ("back at their places", ""), ("", "24")])
@pytest.mark.parametrize("form", [{}, {"shards": "60KB"}, {"dtype": torch.bfloat16}])
def test_the_whole_generates_with_what_was_learnt(tmp_path: Path, steps: str, size: str, form: Any) -> None:
    more = f"image_size: {size}\n" if size else ""
    student, samples = part(tmp_path, STEPS.get(steps, ""), more=more, **form), alone(tmp_path / "pictures")
    settings = QUICK.replaced({"epochs": 4, "learning_rate": 1e-2})
    pumer_convert.distill(student, None, samples, None, tmp_path / "out", settings)
    report = export_hf(tmp_path / "out", tmp_path / "whole")
    trained = load_file(tmp_path / "out" / "model.safetensors")
    kind = form.get("dtype", torch.float32)
    pumer_convert.register()
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "whole").eval()
    weights = {name.replace("model.", "", 1): value for name, value in model.state_dict().items()}
    for name, value in trained.items():
        assert torch.equal(weights[name], value.to(kind)), name
    dense = LlavaForConditionalGeneration.from_pretrained(tmp_path / "dense").eval()
    same = {name: value for name, value in dense.state_dict().items() if "language_model" in name or "lm_head" in name}
    assert all(torch.equal(model.state_dict()[name], value) for name, value in same.items())
    assert 0 < report["replaced_weights"] <= len(trained)
    # Only files with weights of the vision part are written anew.
    old, new = tmp_path / "dense", tmp_path / "whole"
    linked = {file.name for file in old.glob("*.safetensors") if file.samefile(new / file.name)}
    assert len(linked) < len([*old.glob("*.safetensors")])
    assert bool(linked) == ("shards" in form)
    features = pumer_convert.load(tmp_path / "out").to(kind)

    def given(pixel_values: torch.Tensor, **_: Any) -> Any:
        found = features(pixel_values.to(kind)).outputs["image_features"]
        return BaseModelOutputWithPooling(pooler_output=list(found.to(kind)))

    dense.model.get_image_features = given
    words = whole_llava.inputs(new)
    vision = features(words["pixel_values"].to(kind))
    _, positions = handed(dense, words, vision, (int(size or 48) // 8) ** 2, whole_llava.IMAGE)
    assert torch.equal(generated(new, model), generated(new, dense, position_ids=positions))
    export_hf(student, tmp_path / "untaught")
    assert not torch.equal(
        generated(tmp_path / "untaught", model.from_pretrained(tmp_path / "untaught")), generated(new, model)
    )


def test_weights_that_nobody_taught_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    student = part(tmp_path, STEPS["merged"])
    weights = load_file(student / "model.safetensors")
    weights["multi_modal_projector.linear_1.weight"] += 1
    save_file(weights, student / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"its 'multi_modal_projector.linear_1.weight' is not that of .*dense, whose"):
        export_hf(student, tmp_path / "whole")
    assert not (tmp_path / "whole").exists()


def test_the_verbs_teach_a_vision_part(tmp_path: Path) -> None:
    student, shown = part(tmp_path, STEPS["merged"], more="distill: {epochs: 1, batch_size: 4}\n"), tmp_path / "shown"
    pictures(shown)
    words = ["--data", str(shown), "--validation", str(shown), "--device", "cpu"]
    one = ["distill", str(student), "-o", str(tmp_path / "one"), *words]
    both = [
        "apply",
        "--distill",
        "--recipe",
        str(tmp_path / "r.yaml"),
        str(tmp_path / "dense"),
        "-o",
        str(tmp_path / "both"),
    ]
    for command in (one, [*both, *words]):
        done = CliRunner().invoke(cli, command, catch_exceptions=False)
        assert done.exit_code == 0
        assert "by the teacher's tokens" in done.stderr
        assert "validation cosine" in done.stderr
    assert same_weights(tmp_path / "one", tmp_path / "both")
    assert export_hf(tmp_path / "both", tmp_path / "whole")["replaced_weights"] > 0


class StopError(Exception):
    """Something that stops a training."""


def test_a_stopped_training_goes_on(tmp_path: Path) -> None:
    """With an average, a ramp, clipping, augmentation and bf16, all at once."""
    student, samples = part(tmp_path, STEPS["merged"]), alone(tmp_path / "pictures")
    more = {"ema": 0.9, "ramp": 0.5, "clip": 1.0, "augment": Augment(), "amp": "bf16", "save_every": 2}
    settings = QUICK.replaced({"epochs": 3, **more})

    def watch(status: Any) -> None:
        if status.step == 3:
            raise StopError

    with pytest.raises(StopError):
        pumer_convert.distill(student, None, samples, samples, tmp_path / "out", settings, watch=watch)
    pumer_convert.distill(student, None, samples, samples, tmp_path / "out", settings, resume=True, workers=1)
    pumer_convert.distill(student, None, samples, samples, tmp_path / "whole", settings)
    assert same_weights(tmp_path / "out", tmp_path / "whole")
    assert losses(tmp_path / "out") == losses(tmp_path / "whole")


def test_parts_of_a_batch_add_up_and_kept_tokens_teach_as_asked_ones(tmp_path: Path) -> None:
    student, samples = part(tmp_path, STEPS["summed up"]), alone(tmp_path / "pictures")
    for name, more in (("whole", {}), ("parts", {"accumulation": 2})):
        settings = QUICK.replaced({"epochs": 2, **more})
        pumer_convert.distill(student, None, samples, None, tmp_path / name, settings, cache=tmp_path / "cache")
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), abs=1e-4)
    (kept,) = (np.load(file) for file in (tmp_path / "cache").glob("*.npy") if ".known" not in file.name)
    np.testing.assert_allclose(kept, tokens(tmp_path / "dense", samples).states.flatten(1), atol=1e-4)
    # Of one epoch without a folder for them nothing is kept, and the first losses are the same.
    pumer_convert.distill(student, None, samples, None, tmp_path / "once", QUICK)
    assert losses(tmp_path / "once")[0] == pytest.approx(losses(tmp_path / "whole")[0], rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"contrastive": 1.0}, "contrastive is not for this model; it compares pictures with captions"),
        ({"hidden": 1.0}, "hidden is not for this model; it is of hidden states, and kd compares the tokens"),
        ({"temperature": 2.0}, "temperature is not for this model; it is of softmaxes"),
        ({"candidates": 8}, "candidates is not for this model, which ranks nothing"),
        ({"kd": 0.0, "cosine": 0.0}, "there is nothing to learn from; give `kd` or `cosine` a weight"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    student, samples = part(tmp_path, STEPS["merged"]), captions(tmp_path / "pictures")
    before = set(tmp_path.iterdir())
    with pytest.raises(InputError, match=says):
        pumer_convert.distill(student, None, samples, None, tmp_path / "out", QUICK.replaced(settings))
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("steps", ["", "{at: projector, prune: {image: {keep: 9}, by: divprune}}"])
def test_tokens_that_are_the_teachers_are_not_taught(tmp_path: Path, steps: str) -> None:
    student, samples = part(tmp_path, steps), alone(tmp_path / "pictures")
    with pytest.raises(
        InputError, match=r"every token that it keeps is its teacher's already; .* prumerge or visionzip"
    ):
        pumer_convert.distill(student, None, samples, None, tmp_path / "out", QUICK)
    other = whole_llava.write(tmp_path / "other", seed=1)
    pumer_convert.distill(student, other, samples, None, tmp_path / "out", QUICK)


def test_teachers_that_do_not_fit(tmp_path: Path) -> None:
    student, samples = part(tmp_path, STEPS["merged"]), alone(tmp_path / "pictures")
    full = whole_llava.write(tmp_path / "full", vision_feature_select_strategy="full")
    for teacher, says in (
        (student, "its tokens; they are reduced themselves. Take a dense teacher"),
        (full, "one of the two leaves out the first token of its tower"),
    ):
        with pytest.raises(InputError, match=says):
            pumer_convert.distill(student, teacher, samples, None, tmp_path / "out", QUICK)
    assert not WorkFolder(tmp_path / "out").path.exists()


def test_of_a_picture_in_tiles_one_teaches(tmp_path: Path) -> None:
    tiny_tiles.write(tmp_path / "dense", scale_factor=2, splits=True)
    (tmp_path / "r.yaml").write_text(
        "recipe: 1\nmodel: idefics3\nreduce: [{at: vision.0, merge: {image: 0.4}, unmerge: before_projector}]\n"
    )
    pumer_convert.apply(tmp_path / "dense", tmp_path / "r.yaml", student := tmp_path / "part")
    samples = alone(tmp_path / "pictures")
    preprocessor = Preprocessor.of(student)
    batch = next(batches(samples, Task(captions=False), preprocessor, len(samples)))
    for sample, index, own in zip(samples, batch.indices, batch.inputs["pixel_values"], strict=True):
        tiles = preprocessor.tiles(sample.pictures[0].open())
        assert len(tiles) > 1
        assert np.array_equal(own.numpy(), tiles[index % len(tiles)])
    settings = QUICK.replaced({"epochs": 4, "learning_rate": 1e-3})
    report = pumer_convert.distill(student, None, samples, samples, tmp_path / "out", settings)
    first, *_, last = [one["validation"]["cosine"] for one in report["distill"]["validations"]]
    assert last > first
    file = student / "preprocessor_config.json"
    file.write_text(file.read_text().replace('"do_image_splitting": true', '"do_image_splitting": false'))
    with pytest.raises(InputError, match="the teacher cuts pictures into other tiles, whose tokens say nothing"):
        pumer_convert.distill(student, None, samples, None, tmp_path / "again", settings)
