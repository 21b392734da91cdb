"""CLIP under open_clip's names is the same network; what its config says is obeyed or refused."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip_names
import pytest
import tiny_clip
import torch
import transformers
from safetensors.torch import load_file, save_file

from pumer_convert.checkpoint.read import check_complete, open_checkpoint
from pumer_convert.convert.apply import apply
from pumer_convert.convert.load import load
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.errors import InputError
from pumer_convert.image_processor.settings import image_settings
from pumer_convert.models.towers.open_clip import NOTE

NAME = "open_clip_model.safetensors"
BINARY = "open_clip_pytorch_model.bin"
TEXTS = ["a red star", "the cat"]
PIXELS = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def ours(path: Path) -> dict[str, torch.Tensor]:
    model, words = load(path), tiny_clip.tokenizer()(TEXTS, padding=True, return_tensors="pt")
    return {**model.run("image", {"pixel_values": PIXELS}).outputs, **model.run("text", dict(words)).outputs}


def theirs(folder: Path) -> dict[str, torch.Tensor]:
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    return model(pixel_values=PIXELS, **tiny_clip.tokenizer()(TEXTS, padding=True, return_tensors="pt"))


def close(found: dict[str, torch.Tensor], expected: Any) -> None:
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], atol=1e-5, rtol=1e-5)


def changed(**values: Any) -> dict[str, Any]:
    """The config with other values: `vision_...`, `text_...`, or of the model."""
    config = copy.deepcopy(open_clip_names.CONFIG["model_cfg"])
    for name, value in values.items():
        part, _, key = name.partition("_")
        if part in ("vision", "text"):
            config[f"{part}_cfg"][key] = value
        else:
            config[name] = value
    return config


@pytest.mark.parametrize("file", [NAME, BINARY, "epoch_3.pt"])
def test_it_is_the_same_network_under_other_names(tmp_path: Path, file: str) -> None:
    dense = tiny_clip.write(tmp_path / "dense")
    folder = open_clip_names.write(tmp_path / "theirs", dense, file)
    expected = theirs(dense)
    for path in (folder, folder / file):
        checkpoint = open_checkpoint(path)
        check_complete(checkpoint)
        assert (checkpoint.origin, checkpoint.family) == ("open_clip checkpoint", "clip")
        assert NOTE in checkpoint.notes
        close(ours(path), expected)
    words = tiny_clip.tokenizer()(TEXTS, padding=True, return_tensors="np")
    np.testing.assert_array_equal(Preprocessor.of(folder).words(TEXTS)["input_ids"], words["input_ids"])


def test_texts_of_their_own_class(tmp_path: Path) -> None:
    dense = tiny_clip.write(tmp_path / "dense")
    folder = open_clip_names.write(tmp_path / "theirs", dense, model_cfg=changed(custom_text=True))
    state = load_file(folder / NAME)
    moved = {n if n.startswith(("visual.", "logit")) else f"text.{n}": v for n, v in state.items()}
    save_file(moved, folder / NAME)
    close(ours(folder), theirs(dense))


def test_values_of_the_config_are_obeyed(tmp_path: Path) -> None:
    one = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-3, "num_attention_heads": 2}
    dense = tiny_clip.write(tmp_path / "dense", vision=one, text={**one, "eos_token_id": 91})
    how = {"norm_kwargs": {"eps": 1e-3}, "act_kwargs": {"approximate": "tanh"}}
    values = {f"{part}_{key}": value for part in ("vision", "text") for key, value in how.items()}
    config = changed(
        quick_gelu=False, vision_head_width=32, text_heads=2, text_pool_type="eos", text_eos_id=91, **values
    )
    folder = open_clip_names.write(tmp_path / "theirs", dense, model_cfg=config)
    close(ours(folder), theirs(dense))


def test_pictures_are_prepared_as_it_says(tmp_path: Path) -> None:
    dense = tiny_clip.write(tmp_path / "dense")

    def settings(name: str, **told: Any) -> Any:
        folder = open_clip_names.write(tmp_path / name, dense, preprocess_cfg=told)
        return image_settings(open_checkpoint(folder).processor or {}, "CLIPImageProcessor")

    cut = settings("cut", mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4])
    assert (cut.fit, cut.size, cut.shorter, cut.filter, cut.rounded) == ("crop", (48, 48), 48, 3, True)
    assert (cut.mean, cut.std) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    flat = settings("flat", resize_mode="squash", interpolation="bilinear", size=224)
    assert (flat.fit, flat.size, flat.filter) == ("squash", (48, 48), 2)
    assert flat.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))


def test_what_is_reduced_is_a_folder_of_transformers(tmp_path: Path) -> None:
    dense = tiny_clip.write(tmp_path / "dense")
    folder = open_clip_names.write(tmp_path / "theirs", dense)
    (tmp_path / "r.yaml").write_text(
        "recipe: 1\nmodel: clip\nreduce:\n  - {at: vision.1, merge: {image: 0.2, by: tome}}\n"
    )
    apply(folder, tmp_path / "r.yaml", tmp_path / "out")
    expected, found = theirs(dense), theirs(tmp_path / "out")
    assert torch.equal(found.image_embeds, expected.image_embeds)
    assert open_checkpoint(tmp_path / "out").processor == open_checkpoint(folder).processor
    assert load(tmp_path / "out")(PIXELS).image.states.shape[1] < 37


def test_openais_own_file_needs_no_config(tmp_path: Path) -> None:
    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 2}
    dense = tiny_clip.write(tmp_path / "dense", vision=sizes, text=sizes)
    numbers = {"input_resolution": 48, "context_length": 77, "vocab_size": 93}
    state = open_clip_names.state(dense) | {name: torch.tensor(value) for name, value in numbers.items()}
    file = tmp_path / "ViT-B-16.pt"
    torch.save(state, file)
    close(ours(file), theirs(dense))
    for name in numbers:
        del state[name]
    torch.save(state, file)
    with pytest.raises(InputError, match=r"no open_clip_config\.json beside them whose model_cfg says quick_gelu"):
        open_checkpoint(file)


def test_transformers_files_in_the_same_folder_go_first(tmp_path: Path) -> None:
    dense = tiny_clip.write(tmp_path / "dense")
    other = tiny_clip.write(tmp_path / "other", seed=1)
    folder = open_clip_names.write(tmp_path / "theirs", other)
    for file in ("model.safetensors", "config.json", "preprocessor_config.json"):
        (folder / file).write_bytes((dense / file).read_bytes())
    close(ours(folder), theirs(dense))
    (folder / "model.safetensors").unlink()
    close(ours(folder), theirs(other))
    (folder / NAME).rename(folder / "pytorch_model.safetensors")
    close(ours(folder), theirs(other))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (changed(vision_timm_model_name="vit"), 'model_cfg.vision_cfg.timm_model_name is "vit"'),
        (changed(vision_pool_type="avg"), 'model_cfg.vision_cfg.pool_type is "avg" in its config; allowed: tok'),
        (changed(vision_no_ln_pre=True), "model_cfg.vision_cfg.no_ln_pre is true"),
        (changed(vision_head_width=48), "model_cfg.vision_cfg.head_width is 48 in its config; width, 64"),
        (changed(vision_norm_kwargs={"bias": False}), "model_cfg.vision_cfg.norm_kwargs is"),
        (changed(vision_act_kwargs={"approximate": "tanh"}), "model_cfg.vision_cfg.act_kwargs is"),
        (changed(vision_image_size=[48, 64]), "only squares are read"),
        (changed(vision_registers=4), "model_cfg.vision_cfg.registers is 4 in its config; that key is not known"),
        (changed(text_pool_type="last"), 'model_cfg.text_cfg.pool_type is "last" in its config; allowed: argmax, eos'),
        (changed(text_no_causal_mask=True), "model_cfg.text_cfg.no_causal_mask is true"),
        (changed(text_tokenizer_kwargs={"clean": "canonicalize"}), "tokenizer_kwargs.clean is"),
        (changed(text_layers=2), "unexpected: text_model.encoder.layers.2"),
        (changed(multimodal_cfg={"layers": 2}), "model_cfg.multimodal_cfg is"),
        (changed(embed_dim=None), "model_cfg.embed_dim is null"),
        (changed(init_logit_bias=-10), "model_cfg.init_logit_bias is -10"),
        ("ViT-B-32", 'model_cfg is "ViT-B-32" in its config; it has to be an object'),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, config: Any, message: str) -> None:
    folder = open_clip_names.write(tmp_path / "theirs", tiny_clip.write(tmp_path / "dense"), model_cfg=config)
    with pytest.raises(InputError) as refused:
        check_complete(open_checkpoint(folder))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (
            {"resize_mode": "longest"},
            'preprocess_cfg.resize_mode is "longest" in its config; allowed: shortest, squash',
        ),
        ({"mode": "L"}, 'preprocess_cfg.mode is "L"'),
        ({"gamma": 2}, 'preprocess_cfg is {"gamma": 2} in its config; allowed: size, mode'),
    ],
)
def test_other_ways_to_prepare_pictures_are_refused(tmp_path: Path, told: dict[str, Any], message: str) -> None:
    dense = tiny_clip.write(tmp_path / "dense")
    with pytest.raises(InputError) as refused:
        open_checkpoint(open_clip_names.write(tmp_path / "theirs", dense, preprocess_cfg=told))
    assert message in str(refused.value)


def renamed(change: Callable[[str], str]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        save_file({change(name): value for name, value in load_file(folder / NAME).items()}, folder / NAME)

    return write


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed(lambda n: n.replace("visual.", "visual.trunk.")), "with a tower of timm, which is not supported"),
        (renamed(lambda n: n.replace("visual.conv1", "visual.layer1.0.conv1")), "with a tower that is no vision trans"),
        (
            lambda folder: (folder / "open_clip_config.json").unlink(),
            "no open_clip_config.json beside them whose model_cfg",
        ),
        (
            lambda folder: (folder / "open_clip_config.json").write_text(json.dumps({})),
            "no open_clip_config.json beside them whose model_cfg",
        ),
    ],
)
def test_other_towers_are_refused(tmp_path: Path, change: Callable[[Path], Any], message: str) -> None:
    folder = open_clip_names.write(tmp_path / "theirs", tiny_clip.write(tmp_path / "dense"))
    change(folder)
    with pytest.raises(InputError) as refused:
        open_checkpoint(folder)
    assert message in str(refused.value)
