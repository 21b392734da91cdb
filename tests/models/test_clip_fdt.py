"""CLIP+FDT: from the file that its training writes to the embeddings of the original's own code."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_fdt
import torch

from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.apply import apply
from pumer_convert.convert.load import load, plan_of, similarity_of
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.errors import InputError
from pumer_convert.export.folder import export_folder
from pumer_convert.models.towers.codebook import sparsemax
from pumer_convert.runtime import open_runtime

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "support" / "fdt_golden.json").read_text())
"""What the original's classes give for `tiny_fdt.weights`, its `pixels` and its TEXTS (github.com/yuxiaochen1103/FDT,
commit ccf69830c1ee323bc66744da7dfa022da0bc70b2, its own tokenizer included)."""


@pytest.fixture(autouse=True)
def no_gradients() -> Any:
    with torch.no_grad():
        yield


def told(case: dict[str, Any]) -> dict[str, Any]:
    """The training's config of a golden case."""
    fdt = {"att_func_type": case["attention"], "pool_type": case["pool"]}
    return {"fdt": fdt, "decay": {} if case["org_t"] is None else {"org_t": case["org_t"], "sd_T_decay_w": 1}}


def reduced(file: Path, out: Path, steps: str = "") -> Path:
    recipe = out.with_suffix(".yaml")
    recipe.write_text(f"recipe: 1\nmodel: clip-fdt\n{'reduce: ' * bool(steps)}{steps}\n")
    apply(file, recipe, out)
    return out


def embeddings(folder: Path, **how: Any) -> dict[str, torch.Tensor]:
    model = load(folder, **how)
    words = Preprocessor.of(folder, graph="text").words(tiny_fdt.TEXTS)
    pictures = {"pixel_values": tiny_fdt.pixels().to(model.dtype)}
    texts = model.run("text", {name: torch.from_numpy(value) for name, value in words.items()}).outputs
    return {**model.run("image", pictures).outputs, **texts}


@pytest.mark.parametrize("name", GOLDEN)
def test_its_embeddings_are_those_of_the_original_code(name: str, tmp_path: Path) -> None:
    folder = reduced(tiny_fdt.write(tmp_path / "run", **told(GOLDEN[name])), tmp_path / "out")
    for graph, value in embeddings(folder).items():
        golden = torch.tensor(GOLDEN[name][graph.removesuffix("_embeds")])
        torch.testing.assert_close(value, golden, atol=1e-5, rtol=0)


def test_they_are_through_onnx_runtime(tmp_path: Path) -> None:
    folder = reduced(tiny_fdt.write(tmp_path / "run"), tmp_path / "out")
    export_folder(folder, dtype="float32")
    words = Preprocessor.of(folder, graph="text").words(tiny_fdt.TEXTS)
    for graph, inputs in (("image", {"pixel_values": tiny_fdt.pixels().numpy()}), ("text", words)):
        given = open_runtime(folder / f"{graph}.onnx", device="cpu").run(inputs)[f"{graph}_embeds"]
        np.testing.assert_allclose(given, np.array(GOLDEN["falling"][graph]), atol=1e-5)


def test_a_file_in_half_precision_is_read_as_one(tmp_path: Path) -> None:
    half = {name: value.half().float() for name, value in tiny_fdt.weights().items()}
    one = reduced(tiny_fdt.write(tmp_path / "half", dtype=torch.float16), tmp_path / "one")
    other = reduced(tiny_fdt.write(tmp_path / "whole", state=half), tmp_path / "other")
    assert open_checkpoint(one).source.dtype("space_dict") == "float16"
    exact = embeddings(other)
    for name, value in embeddings(one).items():
        assert torch.equal(value, exact[name])
    for name, value in embeddings(one, dtype="float16").items():
        assert float(torch.cosine_similarity(value.float(), exact[name]).min()) > 0.999


def test_padding_and_other_lengths_change_nothing(tmp_path: Path) -> None:
    model = load(reduced(tiny_fdt.write(tmp_path / "run"), tmp_path / "out"))
    ids = torch.randint(1, tiny_fdt.WORDS - 1, (1, 9), generator=torch.Generator().manual_seed(0))
    ids[0, -1] = tiny_fdt.WORDS - 1
    alone = model.run("text", {"input_ids": ids, "attention_mask": torch.ones_like(ids)}).outputs["text_embeds"]
    wide = torch.cat([ids, torch.zeros(1, 68, dtype=torch.int64)], 1)
    mask = (torch.arange(77) < 9).long()[None]
    padded = model.run("text", {"input_ids": wide, "attention_mask": mask}).outputs["text_embeds"]
    torch.testing.assert_close(alone, padded, atol=1e-6, rtol=0)


@pytest.mark.parametrize("spread", [0.0004, 0.05, 1.0, 20.0])
def test_sparsemax_is_the_sorted_one(spread: float) -> None:
    z = torch.randn(4, 5000, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * spread
    ordered = z.sort(-1, descending=True).values
    sums, k = ordered.cumsum(-1) - 1, torch.arange(1, 5001)
    count = (ordered * k > sums).sum(-1, keepdim=True)
    exact = (z - sums.gather(-1, count - 1) / count).clamp(min=0)
    torch.testing.assert_close(sparsemax(z), exact, atol=1e-13, rtol=0)
    assert bool((sparsemax(torch.zeros(1, 1)) == 1).all())


def test_its_temperature_goes_on_falling_between_the_steps_of_training(tmp_path: Path) -> None:
    for step, decay, temperature in (
        (45, {}, 16 * 0.5**1.5),
        (3000, {}, 0.01),
        (45, {"sd_T_decay_w": 1}, 16.0),
        (0, {"sd_T_min": 20}, 20.0),
    ):
        file = tiny_fdt.write(tmp_path / f"{step}-{temperature}", step=step, decay=decay)
        book = open_checkpoint(file).config["fdt_config"]
        assert book["temperature"] == pytest.approx(temperature, rel=1e-12)


@pytest.mark.parametrize("scale", [2.5, 5.5])
def test_the_scale_of_its_logits_ends_at_a_hundred(scale: float, tmp_path: Path) -> None:
    weights = {**tiny_fdt.weights(), "logit_scale": torch.full((1,), scale)}
    folder = reduced(tiny_fdt.write(tmp_path / "run", state=weights), tmp_path / "out")
    similarity = similarity_of(open_checkpoint(folder))
    assert similarity is not None
    assert np.exp(similarity.logit_scale) == pytest.approx(min(np.exp(scale), 100), rel=1e-6)


def test_its_pictures_are_cut_out_of_larger_ones(tmp_path: Path) -> None:
    made = Preprocessor.of(reduced(tiny_fdt.write(tmp_path / "run"), tmp_path / "out"), graph="image").image
    assert made is not None
    assert (made.shorter, made.size, made.filter, made.rounded) == (55, (48, 48), 2, True)
    np.testing.assert_allclose((made.mean, made.std), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def test_the_config_lies_beside_the_weights_too_and_may_be_yaml(tmp_path: Path) -> None:
    file = tiny_fdt.write(tmp_path / "run")
    for name, text in (("config.json", "json"), ("config_cc3m.yaml", "yaml")):
        beside = tmp_path / text
        beside.mkdir()
        (beside / "model.pth.tar").write_bytes(file.read_bytes())
        (beside / name).write_text((tmp_path / "run" / "config.json").read_text())  # JSON is YAML
        (beside / "other.yaml").write_text("a: [1\n")
        for place in (beside, beside / "model.pth.tar"):
            assert open_checkpoint(place).config == open_checkpoint(file).config


def without(*keys: str) -> Any:
    def change(values: dict[str, Any]) -> None:
        inner = values
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]

    return change


def with_value(value: Any, *keys: str) -> Any:
    def change(values: dict[str, Any]) -> None:
        inner = values
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value

    return change


FDT, TEXT, IMAGE = (("model", "kwargs", part) for part in ("fdt", "text_encode", "image_encode"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("t_decay"), r"t_decay is null in its config; it has to be an object"),
        (without("t_decay", "org_t"), r"t_decay\.org_t is null in its config; allowed: a number above 0"),
        (without(*FDT, "pool_type"), r"pool_type is null in its config; allowed: max, mean, sum"),
        (with_value("median", *FDT, "pool_type"), r"pool_type is \"median\" in its config; allowed: max, mean, sum"),
        (with_value(41, *FDT, "sd_num"), r"fdt\.sd_num is 41 in its config; by the weights it is 300"),
        (with_value(12, *IMAGE, "layers"), r"image_encode\.layers is 12 in its config; by the weights it is 4"),
        (with_value(5, *IMAGE, "heads"), r"num_attention_heads is 5"),
        (with_value("Bert", *TEXT, "text_encode_type"), r"text_encode_type is \"Bert\" .* is not supported"),
        (with_value(1, *TEXT, "window"), r"text_encode\.window is 1 in its config; that key is not known here"),
        (with_value("declip_fdt_vitb32", "model", "type"), r"model\.type is \"declip_fdt_vitb32\" in its config; what"),
        (without(*FDT), r"neither beside them nor in the folder above the config of their training"),
    ],
)
def test_a_config_that_says_something_else_is_refused(change: Any, said: str, tmp_path: Path) -> None:
    file = tiny_fdt.write(tmp_path / "run")
    values = json.loads((tmp_path / "run" / "config.json").read_text())
    change(values)
    (tmp_path / "run" / "config.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=said):
        open_checkpoint(file)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    file = tiny_fdt.write(tmp_path / "run")
    with pytest.raises(InputError, match=r"'checkpoints/ckpt_40.pth.tar' is a checkpoint of a training; name that"):
        open_checkpoint(tmp_path / "run")
    (tmp_path / "run" / "other.yaml").write_text(json.dumps(tiny_fdt.config({"pool_type": "sum"}, {})))
    with pytest.raises(InputError, match=r"config\.json and other\.yaml say different things"):
        open_checkpoint(file)
    (tmp_path / "run" / "other.yaml").unlink()
    torch.save({f"module.{name}": value for name, value in tiny_fdt.weights().items()}, file)
    with pytest.raises(InputError, match=r"the file says no last_iter, how far its training went"):
        open_checkpoint(file)
    (tmp_path / "run" / "config.json").unlink()
    with pytest.raises(InputError, match=r"neither beside them nor in the folder above .* put it there"):
        open_checkpoint(file)


@pytest.mark.parametrize(
    ("gone", "said"),
    [("visual.conv1.weight", "tower of pictures"), ("encode_text.token_embedding.weight", "tower of texts")],
)
def test_other_towers_are_refused(gone: str, said: str, tmp_path: Path) -> None:
    weights = {name: value for name, value in tiny_fdt.weights().items() if name != gone}
    with pytest.raises(InputError, match=rf"a CLIP\+FDT whose {said} is none of CLIP's own kind"):
        open_checkpoint(tiny_fdt.write(tmp_path / "run", state=weights))


def test_merges_of_another_model_and_its_tokenizer_are_refused(tmp_path: Path) -> None:
    import tiny_clip

    weights = {**tiny_fdt.weights(), "encode_text.token_embedding.weight": torch.randn(tiny_fdt.WORDS + 1, 48)}
    with pytest.raises(InputError, match=r"its merges make 524 words, and the tower of texts has 525"):
        open_checkpoint(tiny_fdt.write(tmp_path / "more", state=weights))
    tiny_clip.tokenizer().save_pretrained(tmp_path / "clip")
    (tmp_path / "r.yaml").write_text("recipe: 1\nmodel: clip-fdt\n")
    with pytest.raises(InputError, match=r"its tokenizer ends no text with the id 523"):
        apply(tiny_fdt.write(tmp_path / "run"), tmp_path / "r.yaml", tmp_path / "out", tokenizer=tmp_path / "clip")


EVERY = "[{at: vision.3, prune: {image: {keep: %d}, by: codebook}}]"


def test_pruning_behind_the_last_block_is_exact(tmp_path: Path) -> None:
    file = tiny_fdt.write(tmp_path / "run", decay={"org_t": 0.5, "sd_T_decay_w": 1})
    dense = embeddings(reduced(file, tmp_path / "dense"))["image_embeds"]
    few = embeddings(reduced(file, tmp_path / "few", EVERY % 12))["image_embeds"]
    torch.testing.assert_close(few, dense, atol=1e-6, rtol=0)
    random = embeddings(reduced(file, tmp_path / "random", (EVERY % 12).replace("codebook", "random")))["image_embeds"]
    assert float((random - dense).abs().max()) > 1e-2


def test_before_it_goes_by_the_codes_that_some_texts_use(tmp_path: Path) -> None:
    file = tiny_fdt.write(tmp_path / "run")
    (tmp_path / "labels.txt").write_text("cat\na star\nred\na picture of the {}\n")
    step = "[{at: [vision.1, vision.2], prune: {image: 0.25, by: codebook, codes: labels.txt}}]"
    folder = reduced(file, tmp_path / "out", step)
    config = json.loads((folder / "config.json").read_text())
    (action,) = config["pumer"]["edits"][0]["actions"]
    words = Preprocessor.of(folder, graph="text").words(
        ["a picture of the cat", "a picture of the a star", "a picture of the red"]
    )
    inputs = {name: torch.from_numpy(value) for name, value in words.items()}
    used = load(folder).codes_of_texts(**inputs).gt(0).any(0).nonzero()[:, 0].tolist()  # type: ignore[operator]
    assert action["codes"] == used
    assert 3 < len(used) < tiny_fdt.CODES
    every = reduced(file, tmp_path / "all", step.replace(", codes: labels.txt", ""))
    assert not torch.equal(embeddings(folder)["image_embeds"], embeddings(every)["image_embeds"])
    less, more = (plan_of(open_checkpoint(place)).reducer_macs for place in (folder, every))
    tokens = 36 + 27
    assert more - less == tokens * (tiny_fdt.CODES - len(used)) * tiny_fdt.D
    config["pumer"]["edits"][0]["actions"][0]["codes"][-1] = tiny_fdt.CODES
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="not actions that are known at that site"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("{image: 0.2, by: codebook, codes: none.txt}", r"r\.yaml:4: codes: .*none\.txt: not readable as UTF-8 text"),
        ("{image: 0.2, by: random, codes: a.txt}", r"prune by random has no codes; codebook alone has one"),
        ("{image: 0.2, by: codebook, codes: [1, 2]}", r"prune\.codes"),
    ],
)
def test_codes_that_are_none_are_refused(step: str, said: str, tmp_path: Path) -> None:
    file = tiny_fdt.write(tmp_path / "run")
    (tmp_path / "r.yaml").write_text(f"recipe: 1\nmodel: clip-fdt\nreduce:\n  - {{at: vision.1, prune: {step}}}\n")
    with pytest.raises(InputError, match=said):
        apply(file, tmp_path / "r.yaml", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pool", ["mean", "sum"])
def test_a_codebook_of_all_tokens_together_is_nothing_to_prune_by(pool: str, tmp_path: Path) -> None:
    file = tiny_fdt.write(tmp_path / "run", fdt={"pool_type": pool})
    with pytest.raises(InputError, match=r"'codebook' at vision\.3, whose image is not read by the strongest tokens"):
        reduced(file, tmp_path / "out", EVERY % 9)


def test_a_recipe_may_say_on_which_side_of_a_block(tmp_path: Path) -> None:
    file = tiny_fdt.write(tmp_path / "run")
    steps = {
        "usual": "{at: vision.1, prune: {image: 0.5, by: codebook}}",
        "behind": "{at: vision.1, side: after, prune: {image: 0.5, by: codebook}}",
        "inside": "{at: vision.1, side: before, prune: {image: 0.5, by: codebook}}",
    }
    folders = {name: reduced(file, tmp_path / name, f"[{step}]") for name, step in steps.items()}
    found = {name: embeddings(folder)["image_embeds"] for name, folder in folders.items()}
    assert torch.equal(found["usual"], found["behind"])
    assert not torch.equal(found["inside"], found["behind"])
    macs = {name: plan_of(open_checkpoint(folder)).macs for name, folder in folders.items()}
    assert macs["behind"] - macs["inside"] == 2 * 64 * 256 * 18  # the feed-forward of those that are gone
    assert macs["usual"] == macs["behind"]
