"""The vision part of LLaVA-OneVision is what transformers computes, tile by tile, before it packs the tiles."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_llava
import torch
from PIL import Image
from registered import DENSE
from tiny_clip import edit
from transformers import LlavaOnevisionConfig
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

from pumer_convert import Pipeline
from pumer_convert.checkpoint.read import check_complete, open_checkpoint
from pumer_convert.convert.load import load
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.errors import InputError
from pumer_convert.models.family import family_of

FORMS: dict[str, dict[str, Any]] = {
    "as published": {},
    "an earlier layer": {"vision_feature_layer": -2},
    "several layers": {"vision_feature_layer": [1, -1]},
    "without the first token": {"vision_feature_select_strategy": "default"},
    "another activation, no biases": {"projector_hidden_act": "relu", "multimodal_projector_bias": False},
    "a CLIP tower": {"tower": "clip", "vision_feature_select_strategy": "default"},
}


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def theirs(folder: Path, tiles: torch.Tensor) -> torch.Tensor:
    """What the class packs of tiles [B, 3, H, W]: what its projector gives of each."""
    model = DENSE["llava_onevision"].from_pretrained(folder, dtype=tiles.dtype).eval().model
    seen: list[torch.Tensor] = []
    model.multi_modal_projector.register_forward_hook(lambda module, given, found: seen.append(found))
    model.pack_image_features = lambda features, *more, **others: (features, None)
    # Whole pictures beside others are one tile each.
    sizes = torch.tensor([[48, 48]] * len(tiles))
    model.get_image_features(tiles, sizes, batch_num_images=torch.tensor([len(tiles)]))
    return seen[0]


def close(found: torch.Tensor, expected: torch.Tensor, share: float) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max() / expected.abs().max()) < share


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", FORMS)
def test_dense_is_transformers(form: str, dtype: torch.dtype, tmp_path: Path) -> None:
    folder = tiny_llava.write_onevision(tmp_path / "dense", **FORMS[form])
    pixels = torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(1)).to(dtype)
    found = load(folder, dtype=str(dtype).removeprefix("torch."))(pixels).outputs["image_features"]
    close(found, theirs(folder, pixels), 1e-9 if dtype == torch.float64 else 1e-5)


def test_a_picture_becomes_the_tiles_that_transformers_makes_of_it(tmp_path: Path) -> None:
    folder = tiny_llava.write_onevision(tmp_path / "dense")
    file = tmp_path / "p.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (70, 100, 3), np.uint8)).save(file)
    given = LlavaOnevisionImageProcessorPil.from_pretrained(folder)(Image.open(file), return_tensors="pt")
    (tiles,) = given["pixel_values"]
    found = torch.from_numpy(Pipeline(folder).embed_images([file]))
    assert len(found) == len(tiles) == 7
    close(found, theirs(folder, tiles), 1e-5)
    with pytest.raises(InputError, match="and here each is one; name a class in image_processor_type that does not"):
        Preprocessor.of(folder).pixels(Image.new("RGB", (60, 50)))


def test_the_smallest_config_is_read_with_the_values_of_its_class() -> None:
    theirs = LlavaOnevisionConfig()
    small = family_of("llava_onevision").checked({"model_type": "llava_onevision"}, "here")
    assert all(getattr(theirs.vision_config, key) == value for key, value in small["vision_config"].items())
    assert small["text_config"]["hidden_size"] == theirs.text_config.hidden_size
    for key in ("vision_feature_layer", "vision_feature_select_strategy", "projector_hidden_act"):
        assert small[key] == getattr(theirs, key)
    whole = family_of("llava_onevision").spec(theirs.to_dict())
    assert whole.graphs[0].outputs[0].shape == ("batch", 729, theirs.text_config.hidden_size)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"vision_feature_layer": 9}, "vision_feature_layer is 9 .*whole number from -5 to 4"),
    ({"vision_feature_select_strategy": None}, "vision_feature_select_strategy is null .*allowed: default, full"),
    ({"vision_config": {"model_type": "vit"}}, "towers that are read are clip_vision_model, siglip_vision_model"),
    ({"mm_patch_merge_type": "flat"}, "mm_patch_merge_type .* that key is not known here"),
    ({"text_config": {"hidden_size": 40}}, "the weights do not fit the config"),
    ({"architectures": ["LlavaNextForConditionalGeneration"]}, "architectures is .*LlavaOnevisionForConditionalGener"),
]


@pytest.mark.parametrize(("change", "says"), REFUSED, ids=[says[:30] for _, says in REFUSED])
def test_what_is_not_understood_is_refused_by_name(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    folder = tiny_llava.write_onevision(tmp_path / "dense")
    edit(folder, lambda values: values.update(change))
    with pytest.raises(InputError, match=says):
        check_complete(open_checkpoint(folder))
