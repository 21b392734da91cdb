"""SigLIP under open_clip's and timm's names is the same network; what its config says is obeyed or refused."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip_siglip as theirs
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from pumer_convert.checkpoint.read import check_complete, open_checkpoint
from pumer_convert.convert.apply import apply
from pumer_convert.convert.load import load, similarity_of
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.errors import InputError
from pumer_convert.models.towers.open_clip_siglip import NOTE

GENERATOR = torch.Generator().manual_seed(1)
PIXELS = torch.randn(2, 3, 48, 48, generator=GENERATOR)
WORDS = torch.randint(5, 40, (2, 16), generator=GENERATOR)


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def changed(**values: Any) -> dict[str, Any]:
    """The config with other values: `vision_...`, `text_...`, or of the model; None takes one away."""
    config = copy.deepcopy(theirs.CONFIG["model_cfg"])
    for name, value in values.items():
        part, _, key = name.partition("_")
        place, key = (config[f"{part}_cfg"], key) if part in ("vision", "text") else (config, name)
        place.pop(key, None)
        if value is not None:
            place[key] = value
    return config


def compare(path: Path, folder: Path) -> None:
    """Both embeddings and the logits of a checkpoint against transformers' of a folder."""
    model, whole = load(path), transformers.SiglipModel.from_pretrained(folder).eval()
    images = model.run("image", {"pixel_values": PIXELS}).outputs["image_embeds"]
    texts = model.run("text", {"input_ids": WORDS}).outputs["text_embeds"]
    expected = whole(pixel_values=PIXELS, input_ids=WORDS)
    torch.testing.assert_close(images, expected.image_embeds, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(texts, expected.text_embeds, atol=1e-5, rtol=1e-5)
    scale = similarity_of(open_checkpoint(path))
    assert scale is not None
    logits = images @ texts.T * float(np.exp(scale.logit_scale)) + scale.logit_bias
    torch.testing.assert_close(logits, expected.logits_per_image, atol=1e-4, rtol=1e-5)


def test_it_is_the_same_network_under_other_names(tmp_path: Path) -> None:
    folder = theirs.dense(tmp_path / "dense")
    path = theirs.write(tmp_path / "theirs", folder)
    checkpoint = open_checkpoint(path)
    check_complete(checkpoint)
    assert (checkpoint.origin, checkpoint.family) == ("open_clip checkpoint", "siglip")
    assert NOTE in checkpoint.notes
    assert not checkpoint.ignored
    compare(path, folder)


@pytest.mark.parametrize(
    ("name", "act"), [("vit_base_patch32_siglip_256", "gelu_pytorch_tanh"), ("vit_base_patch16_siglip_512", "gelu")]
)
def test_the_name_of_the_tower_tells_its_activation(tmp_path: Path, name: str, act: str) -> None:
    patch = int(name.split("patch")[1][:2])
    folder = theirs.dense(tmp_path / "dense", hidden_act=act, patch_size=patch, image_size=96)
    told = changed(vision_timm_model_name=name, vision_image_size=96)
    path = theirs.write(tmp_path / "theirs", folder, model_cfg=told)
    vision = load(path).config["vision_config"]
    assert (vision["hidden_act"], vision["patch_size"], vision["num_attention_heads"]) == (act, patch, 12)
    found = load(path).run("image", {"pixel_values": PIXELS.repeat(1, 1, 2, 2)}).outputs["image_embeds"]
    whole = transformers.SiglipModel.from_pretrained(folder).eval()
    expected = whole.get_image_features(pixel_values=PIXELS.repeat(1, 1, 2, 2)).pooler_output
    torch.testing.assert_close(found, torch.nn.functional.normalize(expected, dim=-1), atol=1e-5, rtol=1e-5)


def test_texts_may_approximate_gelu(tmp_path: Path) -> None:
    path = theirs.write(
        tmp_path / "theirs",
        theirs.dense(tmp_path / "dense"),
        model_cfg=changed(text_act_kwargs={"approximate": "tanh"}, text_norm_kwargs={"eps": 1e-5}),
    )
    text = open_checkpoint(path).config["text_config"]
    assert (text["hidden_act"], text["layer_norm_eps"]) == ("gelu_pytorch_tanh", 1e-5)


def test_pictures_become_what_open_clip_makes_of_them(tmp_path: Path) -> None:
    path = theirs.write(tmp_path / "theirs", theirs.dense(tmp_path / "dense"))
    picture = Image.effect_noise((70, 41), 90).convert("RGB")
    found = Preprocessor.of(path).pixels(picture)
    small = np.asarray(picture.resize((48, 48), Image.Resampling.BICUBIC), np.float32) / 255
    np.testing.assert_allclose(found, (small.transpose(2, 0, 1) - 0.5) / 0.5, atol=1e-5)


def test_a_reduced_folder_of_it_is_one_like_any_other(tmp_path: Path) -> None:
    folder = theirs.dense(tmp_path / "dense")
    path = theirs.write(tmp_path / "theirs", folder)
    (tmp_path / "none.yaml").write_text("recipe: 1\nmodel: siglip\nreduce: []\n")
    apply(path, tmp_path / "none.yaml", tmp_path / "out")
    assert not [file for file in (tmp_path / "out").iterdir() if "token" in file.name]
    compare(tmp_path / "out", folder)
    apply(path, tmp_path / "none.yaml", tmp_path / "more", tokenizer=folder)
    assert (tmp_path / "more" / "tokenizer.json").exists()


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (changed(vision_timm_pool="avg"), 'vision_cfg.timm_pool is "avg" in its config; a SigLIP has map'),
        (changed(vision_timm_proj=None), "vision_cfg.timm_proj is null in its config; a SigLIP has none"),
        (changed(vision_timm_model_name="vit_base_patch16_siglip_gap_224"), "vision_cfg.timm_model_name is"),
        (changed(vision_timm_model_name=None), "vision_cfg.timm_model_name is null"),
        (changed(text_no_causal_mask=None), "text_cfg.no_causal_mask is null in its config; a SigLIP has true"),
        (changed(text_pool_type="argmax"), 'text_cfg.pool_type is "argmax" in its config; a SigLIP has last'),
        (changed(text_use_pad_mask=True), "text_cfg.use_pad_mask is true"),
        (changed(text_hf_model_name="xlm-roberta-base"), "text_cfg.hf_model_name is"),
        (changed(quick_gelu=True), "model_cfg.quick_gelu is true"),
        (changed(embed_dim=64), "model_cfg.embed_dim is 64 in its config; its tower of pictures has 48"),
        (changed(text_registers=2), "text_cfg.registers is 2 in its config; that key is not known"),
        (changed(text_layers=2), "unexpected: text_model.encoder.layers.2"),
        (changed(vision_image_size=64), "of another shape: vision_model.embeddings.position_embedding.weight"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, told: dict[str, Any], message: str) -> None:
    path = theirs.write(tmp_path / "theirs", theirs.dense(tmp_path / "dense"), model_cfg=told)
    with pytest.raises(InputError) as refused:
        check_complete(open_checkpoint(path))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_damaged_weights_and_no_config_are_refused(tmp_path: Path) -> None:
    path = theirs.write(tmp_path / "theirs", theirs.dense(tmp_path / "dense"))
    whole = load_file(path / theirs.NAME)
    for left, message in (
        ("visual.trunk.attn_pool.kv.bias", "missing: vision_model.head.attention.in_proj_bias"),
        ("visual.trunk.pos_embed", "missing: vision_model.embeddings.position_embedding.weight"),
        ("logit_bias", "missing: logit_bias"),
        ("visual.trunk.attn_pool.mlp.fc1.weight", "missing: vision_model.head.mlp.fc1.weight"),
    ):
        save_file({name: value for name, value in whole.items() if name != left}, path / theirs.NAME)
        with pytest.raises(InputError, match=message):
            check_complete(open_checkpoint(path))
    save_file(whole, path / theirs.NAME)
    (path / "open_clip_config.json").unlink()
    with pytest.raises(InputError, match=r"a SigLIP of open_clip, and no open_clip_config\.json beside them"):
        open_checkpoint(path)
