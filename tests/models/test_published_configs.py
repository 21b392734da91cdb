"""What published checkpoints say and no network reads is known, and changes no answer."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import saved_bridgetower
import tiny_clip
import tiny_dinov2
import tiny_siglip
import torch
from PIL import Image
from tiny_clip import edit

from pumer_convert import Pipeline
from pumer_convert.convert.load import load

GENERATION: dict[str, Any] = {
    "_name_or_path": "",
    "add_cross_attention": False,
    "architectures": None,
    "bad_words_ids": None,
    "chunk_size_feed_forward": 0,
    "cross_attention_hidden_size": None,
    "decoder_start_token_id": None,
    "diversity_penalty": 0.0,
    "do_sample": False,
    "early_stopping": False,
    "exponential_decay_length_penalty": None,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "is_decoder": False,
    "is_encoder_decoder": False,
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "max_length": 20,
    "num_beams": 1,
    "output_hidden_states": False,
    "prefix": None,
    "problem_type": None,
    "pruned_heads": {},
    "return_dict": True,
    "tie_word_embeddings": True,
    "tokenizer_class": None,
    "torch_dtype": None,
    "torchscript": False,
    "transformers_version": "4.16.0.dev0",
    "typical_p": 1.0,
    "use_bfloat16": False,
}
"""What transformers 4 wrote into every section."""
CLIP = {**GENERATION, "dropout": 0.0, "initializer_factor": 1.0, "initializer_range": 0.02}
"""The same in OpenAI's and LAION's CLIPs, and in the encoders of pictures that image generators take."""
BRIDGETOWER: dict[str, Any] = {
    "classifier_drop_rate": 0.1,
    "cross_modal_transform_shared": True,
    "drop_rate": 0.1,
    "freeze_RoBERTa": False,
    "freeze_layer_count_vit": False,
    "head_hidden_scale": 2,
    "image_size": 288,
    "input_image_embed_size": 768,
    "link_tower_shared": False,
    "log_dir": "log_dir",
    "loss_names": {"itm": 1, "mlm": 1},
    "max_text_len": 50,
    "mlp_ratio": 4,
    "nlvr2_head_format": "pair",
    "resolution_before": 224,
    "stop_gradient": False,
    "task_head_layers": 2,
    "tokenizer": "roberta-base",
    "unfreeze_ViT_layernorm": False,
    "vit": "ViT-B/16",
    "vit_layernorm_shared": True,
    "vit_remove_last": False,
    "vocab_size": 50265,
}
"""What the original BridgeTower was started with."""


@pytest.mark.parametrize(
    ("model", "added"),
    [
        (tiny_clip, {"vision_config": CLIP, "text_config": CLIP, "": {"text_config_dict": None}}),
        (tiny_siglip, {"vision_config": GENERATION, "text_config": GENERATION}),
        (saved_bridgetower, {"": BRIDGETOWER}),
        (tiny_dinov2, {"": {**GENERATION, "architectures": ["Dinov2Model"], "interpolate_offset": 0.0}}),
        (tiny_clip, {"": {"rope_parameters": None}, "text_config": {"layer_types": None}}),
    ],
    ids=("clip", "siglip", "bridgetower", "dinov2", "null asks for nothing"),
)
def test_what_no_network_reads_is_read_over(tmp_path: Path, model: Any, added: dict[str, dict[str, Any]]) -> None:
    folder = tmp_path / "dense"
    model.write(folder)
    before = load(folder)

    def change(config: dict[str, Any]) -> None:
        for section, values in added.items():
            (config[section] if section else config).update(values)

    after = load(edit(folder, change))
    assert str(after) == str(before)
    for (name, weight), (_, other) in zip(before.state_dict().items(), after.state_dict().items(), strict=True):
        assert torch.equal(weight, other), name


def test_an_encoder_of_pictures_alone_may_say_the_same(tmp_path: Path) -> None:
    folder = tiny_clip.write(tmp_path / "dense", "CLIPVisionModelWithProjection")
    pixels = torch.rand(1, 3, 48, 48)
    (before,) = load(folder).run("image", {"pixel_values": pixels}).outputs.values()
    edit(folder, lambda config: config.update({**CLIP, "architectures": config["architectures"]}))
    (after,) = load(folder).run("image", {"pixel_values": pixels}).outputs.values()
    assert torch.equal(before, after)


@pytest.mark.parametrize("told", [{"crop_size": None}, {}], ids=("null", "absent"))
@pytest.mark.parametrize("size", [48, {"shortest_edge": 48}], ids=("number", "edge"))
def test_bridgetowers_crop_is_its_size_where_transformers_4_named_none(tmp_path: Path, told: Any, size: Any) -> None:
    saved_bridgetower.write(tmp_path / "dense")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)).save(tmp_path / "p.png")
    want = Pipeline(tmp_path / "dense", device="cpu").pixels(tmp_path / "p.png")[0]
    file = tmp_path / "dense" / "preprocessor_config.json"
    values = {key: value for key, value in json.loads(file.read_text()).items() if key != "crop_size"}
    file.write_text(json.dumps({**values, "size": size, **told}))
    got = Pipeline(tmp_path / "dense", device="cpu").pixels(tmp_path / "p.png")[0]
    assert got.shape == (3, 48, 48)
    assert np.array_equal(got, want)
