"""The vision parts of Idefics3 and SmolVLM are what transformers computes, tile by tile."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_tiles
import torch
from PIL import Image
from registered import DENSE
from tiny_clip import edit

from pumer_convert import Pipeline
from pumer_convert.checkpoint.read import check_complete, open_checkpoint
from pumer_convert.convert.apply import apply
from pumer_convert.convert.load import load
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.errors import InputError
from pumer_convert.models.family import family_of

FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "Idefics3": ("idefics3", {}),
    "SmolVLM": ("smolvlm", {}),
    "SmolVLM of squares of 2": ("smolvlm", {"scale_factor": 2}),
    "Idefics3 that shuffles nothing": ("idefics3", {"scale_factor": 1}),
    "Idefics3 with another activation": ("idefics3", {"vision": {"hidden_act": "gelu"}}),
    "SmolVLM with a rest behind the last patch": ("smolvlm", {"vision": {"image_size": 52}}),
    "Idefics3 of 25 x 25 patches, some in rounded places": (
        "idefics3",
        {"vision": {"image_size": 100, "patch_size": 4}, "scale_factor": 5},
    ),
}


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def theirs(folder: Path, tiles: torch.Tensor) -> torch.Tensor:
    """What transformers makes of tiles [B, 3, H, W], [B, N, D]."""
    kind = open_checkpoint(folder).family
    model = DENSE[kind].from_pretrained(folder, dtype=tiles.dtype).eval()
    return torch.stack(list(model.get_image_features(pixel_values=tiles[:, None]).pooler_output))


def close(found: torch.Tensor, expected: torch.Tensor, share: float) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max() / expected.abs().max()) < share


def drawn(side: int = 48, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", FORMS)
def test_dense_is_transformers(form: str, dtype: torch.dtype, tmp_path: Path) -> None:
    kind, options = FORMS[form]
    folder = tiny_tiles.write(tmp_path / "dense", kind, **options)
    pixels = drawn(options.get("vision", {}).get("image_size", 48), dtype)
    found = load(folder, dtype=str(dtype).removeprefix("torch."))(pixels).outputs["image_features"]
    close(found, theirs(folder, pixels), 1e-9 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("splits", [True, False])
@pytest.mark.parametrize("kind", tiny_tiles.KINDS)
def test_a_picture_becomes_what_the_classes_of_transformers_make_of_it(kind: str, splits: bool, tmp_path: Path) -> None:
    folder = tiny_tiles.write(tmp_path / "dense", kind, splits=splits)
    file = tmp_path / "p.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (70, 100, 3), np.uint8)).save(file)
    given = tiny_tiles.KINDS[kind][2].from_pretrained(folder)(Image.open(file), return_tensors="pt")
    model = DENSE[kind].from_pretrained(folder).eval()
    (expected,) = model.get_image_features(given["pixel_values"], given["pixel_attention_mask"]).pooler_output
    found = torch.from_numpy(Pipeline(folder).embed_images([file]))
    assert len(found) == given["pixel_values"].shape[1] == (13 if splits else 1)
    close(found.flatten(0, 1), expected, 1e-5)


def resized(folder: Path, side: int) -> None:
    """Its processor makes tiles of that size."""
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "max_image_size": {"longest_edge": side}}))


def test_tiles_of_another_size_have_the_positions_that_transformers_gives_them(tmp_path: Path) -> None:
    folder = tiny_tiles.write(tmp_path / "dense", scale_factor=2)
    resized(folder, 64)
    assert "64x64 pixels" in open_checkpoint(folder).notes[-1]
    close(load(folder)(drawn(64)).outputs["image_features"], theirs(folder, drawn(64)), 1e-5)


def test_a_recipe_may_say_another_size_of_tiles(tmp_path: Path) -> None:
    folder = tiny_tiles.write(tmp_path / "dense", splits=True)
    (tmp_path / "r.yaml").write_text("recipe: 1\nmodel: idefics3\nimage_size: 96\n")
    apply(folder, tmp_path / "r.yaml", tmp_path / "large")
    image = Preprocessor.of(tmp_path / "large").image
    assert image is not None
    assert (image.size, image.longest, image.tiles) == ((96, 96), 384, True)
    close(load(tmp_path / "large")(drawn(96)).outputs["image_features"], theirs(folder, drawn(96)), 1e-5)


def test_tiles_with_places_that_would_be_rounded_twice_are_refused(tmp_path: Path) -> None:
    folder = tiny_tiles.write(tmp_path / "dense", scale_factor=1)
    resized(folder, 200)
    with pytest.raises(InputError, match="tiles of 25 x 25 patches have places that its class rounds to others"):
        load(folder)


def test_where_one_picture_is_one_tile_cutting_is_refused(tmp_path: Path) -> None:
    folder = tiny_tiles.write(tmp_path / "dense", splits=True)
    with pytest.raises(InputError, match="cuts pictures into tiles, and here each is one; say do_image_splitting fal"):
        Preprocessor.of(folder).pixels(Image.new("RGB", (60, 50)))
    with pytest.raises(InputError, match="square tiles of one size; say do_image_splitting false"):
        Preprocessor.of(folder, image_size=(48, 96))


@pytest.mark.parametrize("kind", tiny_tiles.KINDS)
def test_the_smallest_config_is_read_with_the_values_of_its_class(kind: str) -> None:
    config = tiny_tiles.KINDS[kind][0]()
    config.vision_config.patch_size = 16
    spec = family_of(kind).spec(config.to_dict())
    assert spec.graphs[0].outputs[0].shape == ("batch", 49, config.text_config.hidden_size)
    small = family_of(kind).checked({"model_type": kind, "scale_factor": 7}, "here")
    theirs = tiny_tiles.KINDS[kind][0]().vision_config
    assert all(getattr(theirs, key) == value for key, value in small["vision_config"].items())


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"scale_factor": 4}, "48 x 48 pixels are 6 x 6 patches, which do not part into squares of 4 x 4"),
    ({"scale_factor": 12}, "48 x 48 pixels are 6 x 6 patches, which do not part into squares of 12 x 12"),
    ({"scale_factor": 0}, "scale_factor is 0 in its config; allowed"),
    ({"vision_config": {"model_type": "siglip_vision_model"}}, "the tower that is read is idefics3_vision"),
    ({"vision_config": {"use_head": True}}, r"vision_config.use_head .* that key is not known here"),
    ({"vision_config": [2]}, "vision_config is .* it has to be an object"),
    ({"resampler": 2}, "resampler .* that key is not known here"),
    ({"text_config": {"hidden_size": 40}}, "the weights do not fit the config"),
    ({"architectures": ["Idefics3VisionTransformer"]}, "architectures is .*Idefics3ForConditionalGeneration"),
]


@pytest.mark.parametrize(("change", "says"), REFUSED, ids=[says[:30] for _, says in REFUSED])
def test_what_is_not_understood_is_refused_by_name(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    folder = tiny_tiles.write(tmp_path / "dense")
    edit(folder, lambda values: values.update(change))
    with pytest.raises(InputError, match=says):
        check_complete(open_checkpoint(folder))


PUBLISHED = {
    "architectures": ["Idefics3ForConditionalGeneration"],
    "image_token_id": 49190,
    "model_type": "idefics3",
    "scale_factor": 4,
    "text_config": {
        "_flash_attn_2_enabled": True,
        "architectures": ["VLlama3ForCausalLM"],
        "head_dim": 64,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "is_llama_config": True,
        "max_position_embeddings": 8192,
        "model_type": "llama",
        "neftune_noise_alpha": 0.0,
        "num_attention_heads": 9,
        "num_hidden_layers": 30,
        "num_key_value_heads": 3,
        "pad_token_id": 2,
        "pixel_shuffle_factor": 4,
        "qk_layer_norms": False,
        "rope_theta": 100000,
        "use_resampler": False,
        "vocab_size": 49280,
    },
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.47.1",
    "use_cache": True,
    "use_reentrant_checkpointing": False,
    "vision_config": {
        "hidden_size": 768,
        "image_size": 512,
        "max_image_size": {"longest_edge": 512},
        "model_type": "idefics3",
        "num_attention_heads": 12,
        "patch_size": 16,
        "size": {"longest_edge": 2048},
        "tie_word_embeddings": False,
        "use_base_siglip": False,
    },
    "vocab_size": 49280,
}


def test_a_config_with_the_keys_of_published_ones_is_read() -> None:
    found = family_of("idefics3").spec(family_of("idefics3").checked(PUBLISHED, "here"))
    assert found.image_tokens == 1024
    assert found.graphs[0].outputs[0].shape == ("batch", 64, 576)
