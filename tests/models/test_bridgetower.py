"""BridgeTower: transformers' answers, from inputs and files; what a reduction does to the towers; what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import saved_bridgetower
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from saved_bridgetower import CONTRASTIVE, RETRIEVAL, answers, batch, config, write

from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.apply import apply, prepare_apply
from pumer_convert.convert.load import load
from pumer_convert.convert.plan import edits_of, make_plan
from pumer_convert.errors import InputError
from pumer_convert.models.bridgetower import FAMILY
from pumer_convert.recipe.schema import load_recipe, parse_recipe
from pumer_convert.runtime.pipeline import Pipeline

RECIPES = Path(__file__).parents[2] / "recipes"
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "transforms-apart": {"share_cross_modal_transformer_layers": False},
    "scaled-links": {"link_tower_type": "scaled_add", "layers": 4, "fusion": 4},
    "interpolated-links": {"link_tower_type": "interpolate", "layer_norm_eps": 0.1},
    "no-layer-before-fusion": {"layers": 2, "fusion": 3},
    "one-fusion-layer": {"layers": 2, "fusion": 1},
    "odd-sizes": {
        "hidden_size": 72,
        "text": {"hidden_size": 72, "hidden_act": "relu", "layer_norm_eps": 0.01, "pad_token_id": 3},
        "vision": {"num_hidden_layers": 5, "hidden_size": 192, "layer_norm_eps": 0.02, "share_layernorm": False},
    },
    "last-layer-removed": {"vision": {"num_hidden_layers": 4, "remove_last_layer": True, "stop_gradient": True}},
}


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def off(got: Any, want: torch.Tensor) -> float:
    return float((torch.as_tensor(got) - want).abs().max() / want.abs().max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("task", "more"),
    [*(pytest.param("retrieval", more, id=name) for name, more in VARIANTS.items()), ("embeddings", {})],
)
def test_it_answers_as_transformers(tmp_path: Path, task: str, more: dict[str, Any], dtype: str) -> None:
    model, inputs = write(tmp_path / "dense", task, **more), batch()
    kind = getattr(torch, dtype)
    inputs["pixel_values"] = inputs["pixel_values"].to(kind)
    inputs["input_ids"][inputs["attention_mask"] == 0] = model.config.text_config.pad_token_id
    got = load(tmp_path / "dense", dtype=dtype)(**inputs).outputs
    want = answers(model.to(kind), inputs)
    assert list(got) == list(want)
    for name, value in want.items():
        assert off(got[name], value) < {"float32": 1e-5, "float64": 1e-9}[dtype]
        assert value.std(0).max() > 1e-3, "the examples are told apart"


def test_shared_links_are_one_link_many_times(tmp_path: Path) -> None:
    """transformers makes and saves them, and fails when it runs them."""
    write(tmp_path / "one", fusion=3, share_link_tower_layers=True)
    model = write(tmp_path / "many", fusion=3)
    state = load_file(tmp_path / "one" / "model.safetensors")
    for name in [name for name in state if "link_tower." in name]:
        start, end = name.split("link_tower.")
        value = state.pop(name)
        state |= {f"{start}link_tower.{i}.{end}": value.clone() for i in range(2)}
    model.load_state_dict(state)
    assert off(load(tmp_path / "one")(**batch()).logits, answers(model, batch())["logits"]) < 1e-5


@pytest.mark.parametrize("form", ["sharded", "bin", "half"])
def test_in_every_form_that_it_is_saved_in(tmp_path: Path, form: str) -> None:
    model = write(tmp_path / "dense")
    if form == "sharded":
        model.save_pretrained(tmp_path / "saved", max_shard_size="300KB")
        assert len([*(tmp_path / "saved").glob("*.safetensors")]) > 2
    elif form == "bin":
        model.save_pretrained(tmp_path / "saved")
        (tmp_path / "saved" / "model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / "saved" / "pytorch_model.bin")
    else:
        model = model.half()
        model.save_pretrained(tmp_path / "saved")
        source = open_checkpoint(tmp_path / "saved").source
        assert {source.dtype(name) for name in source.names()} == {"float16"}
    got = load(tmp_path / "saved")(**batch()).logits
    assert off(got, answers(model.float(), batch())["logits"]) < 1e-5


@pytest.mark.parametrize("named", [RETRIEVAL, "BridgeTowerForMaskedLM", None])
def test_one_head_of_several_is_read(tmp_path: Path, named: str | None) -> None:
    """Published files hold the pretraining heads side by side, under a config that names one of them."""
    model = write(tmp_path / "dense")
    write(tmp_path / "words", head="BridgeTowerForMaskedLM")
    file = tmp_path / "dense" / "model.safetensors"
    more = load_file(tmp_path / "words" / "model.safetensors")
    save_file({**more, **load_file(file)}, file, {"format": "pt"})
    told = tmp_path / "dense" / "config.json"
    told.write_text(json.dumps(json.loads(told.read_text()) | {"architectures": [named] if named else None}))
    found = open_checkpoint(tmp_path / "dense")
    assert any("read by the ImageAndTextRetrieval head" in note for note in found.notes) == (named != RETRIEVAL)
    assert any(name.startswith("mlm_score.") for name in found.ignored)
    assert off(load(tmp_path / "dense")(**batch()).logits, answers(model, batch())["logits"]) < 1e-5


def test_from_picture_files_to_logits(tmp_path: Path) -> None:
    folder = tmp_path / "dense"
    model = write(folder, vision={"image_size": 64, "patch_size": 16})
    random, pictures = np.random.default_rng(0), []
    for i, (width, height) in enumerate([(64, 64), (200, 150), (90, 333), (97, 61), (300, 31), (31, 47)]):
        fields = Image.fromarray(random.integers(0, 255, (6, 7, 3), dtype=np.uint8))
        fields.resize((width, height), Image.Resampling.NEAREST).save(tmp_path / f"{i}.png")
        pictures.append(tmp_path / f"{i}.png")
    texts = ["a hi ?", "", "how many hats", "hi", "what", "hi hi"]
    make = transformers.BridgeTowerImageProcessorPil.from_pretrained(folder)
    pixels = make([Image.open(file) for file in pictures], return_tensors="pt")["pixel_values"]
    pipeline = Pipeline(folder, device="cpu")
    ids, mask = pipeline.preprocessor.text(texts)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    assert torch.equal(torch.from_numpy(ids), theirs["input_ids"])
    arranged = pipeline.preprocessor.arrange([pipeline.pixels([file]) for file in pictures])
    got = pipeline.runtime(input_ids=ids, attention_mask=mask, **arranged)
    assert off(got, answers(model, {**theirs, "pixel_values": pixels})["logits"]) < 1e-5
    score = model(**theirs, pixel_values=pixels).logits.softmax(-1)[:, 1]
    torch.testing.assert_close(torch.from_numpy(got).sigmoid()[:, 0], score, atol=1e-5, rtol=1e-5)


def test_pictures_of_another_size_have_interpolated_positions(tmp_path: Path) -> None:
    model = write(tmp_path / "dense")
    inputs = batch(side=64)
    want = model(**inputs, interpolate_pos_encoding=True).logits
    got = load(tmp_path / "dense", image_size=64)(**inputs).logits
    assert off(got, want[:, 1:] - want[:, :1]) < 1e-5


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"crop_size": {"height": 48, "width": 48}}, "crop_size .* it has to be a shortest_edge"),
        ({"crop_size": 48}, "crop_size 48; it has to be a shortest_edge"),
        ({"size": {"height": 48, "width": 48}}, "size .* it has to be a shortest_edge"),
        ({"size_divisor": 64}, "it has to be a shortest_edge of 64 or more"),
        ({"size_divisor": None}, "size_divisor None; it has to be whole numbers"),
        ({"do_center_crop": False}, "bridgetower takes pictures of one size; say do_resize and do_center_crop"),
    ],
)
def test_a_processor_that_cannot_be_followed_is_refused(tmp_path: Path, values: dict[str, Any], says: str) -> None:
    write(tmp_path / "dense")
    file = tmp_path / "dense" / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    with pytest.raises(InputError, match=says):
        Pipeline(tmp_path / "dense", device="cpu")


def test_without_a_processor_it_is_the_one_of_transformers_class(tmp_path: Path) -> None:
    write(tmp_path / "dense")
    (tmp_path / "dense" / "preprocessor_config.json").unlink()
    Image.fromarray(np.arange(300 * 200 * 3, dtype=np.uint8).reshape(200, 300, 3)).save(tmp_path / "p.png")
    make = transformers.BridgeTowerImageProcessorPil(size={"shortest_edge": 48}, crop_size={"shortest_edge": 48})
    want = make(Image.open(tmp_path / "p.png"), return_tensors="pt")["pixel_values"][0]
    got = Pipeline(tmp_path / "dense", device="cpu").pixels([tmp_path / "p.png"])[0]
    torch.testing.assert_close(torch.as_tensor(got), want, atol=1e-5, rtol=1e-5)


def reduced(source: Path, *steps: str, head: str = "") -> torch.nn.Module:
    file = source.with_name("r.yaml")
    lines = "".join(f"  - {step}\n" for step in steps)
    file.write_text(f"recipe: 1\nmodel: bridgetower\n{head}reduce:\n{lines}")
    apply(source, file, source.with_name("out"), overwrite=True)
    return load(source.with_name("out"))


@pytest.mark.parametrize("task", ["retrieval", "embeddings"])
def test_merging_equal_tokens_changes_nothing(tmp_path: Path, task: str) -> None:
    """In both towers too: they go on with the tokens that fusion has merged, which count by their size."""
    write(tmp_path / "dense", task, layers=4, fusion=3)
    steps = "{at: vision.0-1, merge: {image: 10%, by: pitome}}", "{at: fusion.0-1, merge: {image: 30%}}"
    plain = reduced(tmp_path / "dense", *steps, head="proportional_attention: false\n")
    answered, inputs = [], batch(rows=2)
    inputs["pixel_values"] = inputs["pixel_values"][..., :1, :1].expand(2, 3, 48, 48)
    for model in (load(tmp_path / "dense"), reduced(tmp_path / "dense", *steps), plain):
        model.get_parameter(FAMILY.positions)[2:] = model.get_parameter(FAMILY.positions)[1]
        output = model(**inputs)
        answered.append(output.outputs)
    assert output.image.states.shape[1] == 15
    assert output.image.size.sum(1).tolist() == [37, 37]
    for name, value in answered[0].items():
        assert off(answered[1][name], value) < 1e-5
    assert max(off(answered[2][name], value) for name, value in answered[0].items()) > 1e-3, "this sees sizes count"


def test_what_fusion_drops_the_towers_drop(tmp_path: Path) -> None:
    """After a layer that keeps the first patches alone, the model is that of a smaller picture from there on."""
    write(tmp_path / "dense", layers=4, fusion=3)
    model = reduced(tmp_path / "dense", "{at: fusion.0, prune: {image: {keep: 12}}, merge: {text: 0.3}}")
    seen: dict[str, tuple[int, ...]] = {}
    network = model.bridgetower
    network.vision_model.visual.transformer.resblocks[3].register_forward_hook(
        lambda module, given, got: seen.update(image=tuple(got.states.shape))
    )
    network.text_model.encoder.layer[3].register_forward_hook(
        lambda module, given, got: seen.update(text=tuple(got.shape))
    )
    output = model(**batch())
    assert seen == {"image": (3, 12, 128), "text": (3, 8, 64)}
    assert output.image.states.shape == (3, 12, 64)
    assert (output.image.source[:, 0] == 0).all(), "CLS stays"


def test_gradients_reach_every_parameter(tmp_path: Path) -> None:
    steps = (
        "{at: vision.0-1, merge: {image: 0.1}}",
        "{at: fusion.0-1, prune: {image: 0.2}, merge: {image: 0.3, text: 0.2}}",
    )
    for task in saved_bridgetower.HEADS:
        write(tmp_path / task / "dense", task)
        with torch.enable_grad():
            network = reduced(tmp_path / task / "dense", *steps)
            # (embeddings have length 1, so their squares say nothing)
            sum(value[:, 0].sum() for value in network(**batch()).outputs.values()).backward()
        assert not [n for n, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]


def base(**more: Any) -> Any:
    """The spec of a model of the published size."""
    values = transformers.BridgeTowerConfig(architectures=[RETRIEVAL], **more).to_dict()
    return FAMILY.spec(FAMILY.checked(json.loads(json.dumps(values)), "base"))


def test_what_a_base_model_costs() -> None:
    """57.9 GMACs at image 288 and 50 text tokens: half of them in the image's tower."""
    shape = base()
    plan = make_plan(shape, (), 50)
    c, n, m = 768, 325, 50
    block = 12 * c * c * n + 2 * n * n * c
    words = 12 * c * c * m + 2 * m * m * c
    cross = 2 * (2 * c * c * (m + n) + 2 * m * n * c)
    links = 6 * c * c * (n + m)
    assert plan.dense_macs == 324 * 768 * c + 12 * (block + words) + links + 6 * (block + words + cross) + shape.head
    assert round(plan.dense_macs / 1e9, 1) == 57.9
    assert shape.sites == (*(f"vision.{i}" for i in range(7)), *(f"fusion.{i}" for i in range(6)))
    edits = edits_of(
        parse_recipe("recipe: 1\nmodel: bridgetower\nreduce:\n  - at: fusion.0,5\n    merge: {image: 9 tokens}\n"),
        shape,
    )
    rows = {row.layer: row for row in make_plan(shape, edits, 50).rows}
    assert rows["fusion.0"].reducers == 163 * 162 * (64 + 2 * c), "the tower's states are merged beside the fused ones"
    assert rows["fusion.5"].reducers == 158 * 158 * (64 + c)
    assert rows["link.1"].macs < rows["link.1"].dense_macs


@pytest.mark.parametrize(
    ("name", "reduced", "ratio"), [("bridgetower", 30.09, 1.83), ("bridgetower-fast", 21.94, 2.51)]
)
def test_the_recipes_save_what_they_tell(name: str, reduced: float, ratio: float) -> None:
    file, shape = RECIPES / f"{name}.yaml", base()
    plan = make_plan(shape, edits_of(load_recipe(file), shape), 32)
    told = file.read_text()
    assert (round((plan.macs + plan.reducer_macs) / 1e9, 2), round(plan.ratio, 2)) == (reduced, ratio)
    assert f"x{ratio} fewer MACs" in told
    assert f"{plan.dense_macs / 1e9:.2f} -> {reduced} GMACs" in told


@pytest.mark.parametrize(
    ("section", "values", "says"),
    [
        (None, {"link_tower_type": "gate"}, 'link_tower_type is "gate" in its config; allowed: add, scaled_add, inter'),
        (None, {"num_hidden_layers": 5}, "num_hidden_layers is 5 in its config; text_config.num_hidden_layers is 3,"),
        (None, {"hidden_size": 32}, "hidden_size is 32 in its config; its fusion layers are as wide as its text"),
        (None, {"share_link_tower_layers": "yes"}, 'share_link_tower_layers is "yes" in its config; allowed'),
        (None, {"cross_modal_depth": 3}, "cross_modal_depth is 3 in its config; that key is not known here"),
        (None, {"text_config": [1]}, r"text_config is \[1\] in its config; it has to be an object"),
        (None, {"model_type": "vilt"}, 'model_type is "vilt" in its config; its weights are a BridgeTower\'s'),
        ("text_config", {"is_decoder": True}, "text_config.is_decoder is true in its config; a model with that is not"),
        ("text_config", {"pad_token_id": None}, "text_config.pad_token_id is null in its config; allowed"),
        ("text_config", {"num_attention_heads": 5}, "text_config.num_attention_heads is 5 .* is no multiple of it"),
        ("text_config", {"hidden_act": "prelu"}, 'text_config.hidden_act is "prelu" in its config; allowed'),
        ("text_config", {"layers": 2}, "text_config.layers is 2 in its config; that key is not known here"),
        (
            "vision_config",
            {"hidden_size": 200},
            "vision_config.hidden_size is 200 .* no multiple of its attention heads",
        ),
        ("vision_config", {"num_channels": 1}, "vision_config.num_channels is 1 in its config; allowed"),
        (
            "vision_config",
            {"num_hidden_layers": 2},
            "vision_config.num_hidden_layers is 2 in its config; 2 of them run",
        ),
        ("vision_config", {"patch_size": 64}, "vision_config.patch_size is 64 .* vision_config.image_size is 48"),
        ("vision_config", {"image_size": "big"}, 'vision_config.image_size is "big" in its config; allowed'),
    ],
)
def test_a_value_that_is_not_obeyed_is_refused_by_name(
    tmp_path: Path, section: str | None, values: dict[str, Any], says: str
) -> None:
    write(tmp_path / "dense")
    file = tmp_path / "dense" / "config.json"
    config = json.loads(file.read_text())
    config = config | values if section is None else config | {section: config[section] | values}
    file.write_text(json.dumps(config))
    with pytest.raises(InputError, match=says):
        open_checkpoint(tmp_path / "dense")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"share_cross_modal_transformer_layers": False}, "share_cross_modal_transformer_layers is false"),
        (
            {"contrastive_hidden_size": None},
            "contrastive_hidden_size is null in its config; a BridgeTowerForContrastive",
        ),
    ],
)
def test_embeddings_need_what_transformers_needs(values: dict[str, Any], says: str) -> None:
    told = json.loads(json.dumps(config(vision={"hidden_size": 64}, architectures=[CONTRASTIVE]).to_dict()))
    assert FAMILY.spec(FAMILY.checked(told, "it")).graphs[0].outputs[2].shape == ("batch", 24)
    with pytest.raises(InputError, match=says):
        FAMILY.checked(told | values, "it")
    wide = told | {"vision_config": told["vision_config"] | {"hidden_size": 128}}
    with pytest.raises(InputError, match=r"vision_config\.hidden_size is 128 in its config; in transformers"):
        FAMILY.checked(wide, "it")


def test_weights_alone_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "dense")
    (tmp_path / "dense" / "config.json").unlink()
    with pytest.raises(InputError, match=r"dense: a BridgeTower without its config\.json; give the folder"):
        open_checkpoint(tmp_path / "dense")


def test_a_head_that_fills_in_words_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "dense", head="BridgeTowerForMaskedLM")
    with pytest.raises(
        InputError, match=r"a BridgeTower \(BridgeTowerForMaskedLM\) without a head that is read, Bridge"
    ):
        open_checkpoint(tmp_path / "dense")


def test_no_site_where_a_tower_runs_beside_fusion(tmp_path: Path) -> None:
    write(tmp_path / "dense")
    (tmp_path / "r.yaml").write_text(
        "recipe: 1\nmodel: bridgetower\nreduce:\n  - {at: vision.2, merge: {image: 0.1}}\n"
    )
    with pytest.raises(InputError, match=r"no site 'vision.2'; it has vision.0-1 and fusion.0-1\."):
        prepare_apply(tmp_path / "dense", tmp_path / "r.yaml")


def test_the_published_method_has_no_bridgetower(tmp_path: Path) -> None:
    write(tmp_path / "dense")
    steps = "reduce:\n  - {at: fusion.0, prune: {image: 0.1}, merge: {image: 0.1}}\n"
    (tmp_path / "r.yaml").write_text(f"recipe: 1\nmodel: bridgetower\nsemantics: reference\n{steps}")
    with pytest.raises(
        InputError, match=r"r.yaml:5: semantics: reference has no reducers at fusion\.0, nor has the pub"
    ):
        prepare_apply(tmp_path / "dense", tmp_path / "r.yaml")
