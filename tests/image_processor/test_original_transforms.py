"""The hyper-parameters of original .ckpt files: pictures and texts as they say, or a refusal that names them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import random_checkpoint
import torch
from pictures import noise
from PIL import Image

from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.apply import apply
from pumer_convert.convert.load import load, spec_of
from pumer_convert.errors import InputError
from pumer_convert.image_processor.pixels import ImageSettings, to_pixels
from pumer_convert.image_processor.settings import image_settings
from pumer_convert.models.transforms import transform
from pumer_convert.weights import Checkpoint

MEANS = {
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "vit": ((0.5,) * 3, (0.5,) * 3),
    "pixelbert": ((0.5,) * 3, (0.5,) * 3),
}
SHAPES = ((96, 96), (64, 48), (48, 64), (333, 500), (501, 225), (31, 17), (49, 48), (51, 48), (53, 48), (48, 55))


def as_the_original(image: Image.Image, key: str, size: int) -> np.ndarray[Any, Any]:
    """What torchvision's Resize, CenterCrop, ToTensor and Normalize make of a picture, and ViLT's MinMaxResize."""
    width, height = image.size
    if key == "pixelbert":
        factor = size / min(width, height)
        wide, high = (factor * width, size) if height < width else (size, factor * height)
        longer = int((1333 / 800) * size)
        if max(wide, high) > longer:
            factor = longer / max(wide, high)
            wide, high = wide * factor, high * factor
        image = image.resize((int(wide + 0.5) // 32 * 32, int(high + 0.5) // 32 * 32), Image.Resampling.BICUBIC)
    else:
        short, long = sorted((width, height))
        longer = int(size * long / short)
        image = image.resize((size, longer) if width <= height else (longer, size), Image.Resampling.BICUBIC)
        top, left = round((image.height - size) / 2.0), round((image.width - size) / 2.0)
        image = image.crop((left, top, left + size, top + size))
    pixels = np.asarray(image, np.float32) / np.float32(255)
    mean, std = (np.asarray(value, np.float32) for value in MEANS[key])
    return ((pixels - mean) / std).transpose(2, 0, 1)


@pytest.mark.parametrize("key", MEANS)
@pytest.mark.parametrize("size", [48, 224])
def test_a_transform_is_the_originals_to_the_pixel(key: str, size: int) -> None:
    settings = image_settings(transform(key, size), "")
    for shape in SHAPES:
        image = noise(*shape)
        np.testing.assert_allclose(to_pixels(image, settings), as_the_original(image, key, size), atol=2e-6)


def test_the_middle_is_torchvisions_where_the_rest_is_odd() -> None:
    settings = image_settings(transform("clip", 48), "")
    down = image_settings({**transform("clip", 48), "crop_rounding": None}, "")
    for longer, differs in ((49, False), (51, True), (53, False), (55, True)):
        image = noise(longer, 48)
        assert bool((to_pixels(image, settings) != to_pixels(image, down)).any()) == differs, longer


def original(folder: Path, family: str, **settings: Any) -> Path:
    """An original .ckpt, its hyper-parameters with these besides."""
    # A name of its own: what was loaded of an earlier one is still mapped.
    name = f"{family}-{len(list(folder.iterdir()))}.ckpt"
    file = random_checkpoint.write(folder / name, family, "original", depth=1, **random_of(family))
    content = torch.load(file, weights_only=False)
    config = content.setdefault("hyper_parameters", {}).setdefault("config", {})
    config.update(settings)
    torch.save(content, file)
    return file


def random_of(family: str) -> dict[str, Any]:
    return {"fusion": 1} if family == "meter" else {}


def settings_of(checkpoint: Checkpoint) -> ImageSettings:
    assert checkpoint.processor is not None
    return image_settings(checkpoint.processor, "")


@pytest.mark.parametrize(("family", "usual"), [("meter", "clip"), ("vilt", "pixelbert")])
def test_the_transform_that_a_ckpt_names(tmp_path: Path, family: str, usual: str) -> None:
    plain = open_checkpoint(original(tmp_path, family))
    size = plain.config["image_size"]
    assert settings_of(plain) == image_settings(transform(usual, size), "")
    for key in MEANS:
        found = open_checkpoint(original(tmp_path, family, val_transform_keys=[key]))
        assert settings_of(found) == image_settings(transform(key, size), "")
    for keys in (["clip_randaug"], ["swin"], "clip32"):
        with pytest.raises(InputError, match=r"\.ckpt: its val_transform_keys ask for the transform '(clip|swin)"):
            open_checkpoint(original(tmp_path, family, val_transform_keys=keys))


def test_the_size_that_a_meter_names_is_the_models(tmp_path: Path) -> None:
    own = open_checkpoint(original(tmp_path, "meter")).config["image_size"]
    plain = load(original(tmp_path, "meter"), image_size=own * 2)
    file = original(tmp_path, "meter", image_size=own * 2)
    checkpoint = open_checkpoint(file)
    assert checkpoint.config["image_size"] == own * 2
    assert settings_of(checkpoint).size == (own * 2, own * 2)
    assert "the positions are interpolated for them" in " ".join(checkpoint.notes)
    inputs = (torch.tensor([[0, 7, 2]]), torch.ones(1, 3, dtype=torch.int64), torch.randn(1, 3, own * 2, own * 2))
    with torch.no_grad():
        expected = plain(*inputs).logits
        assert torch.equal(load(file)(*inputs).logits, expected)
        (tmp_path / "r.yaml").write_text("recipe: 1\nmodel: meter\n")
        apply(file, tmp_path / "r.yaml", tmp_path / "out")
        assert torch.equal(load(tmp_path / "out")(*inputs).logits, expected)
    with pytest.raises(InputError, match="image_size 'large'"):
        open_checkpoint(original(tmp_path, "meter", image_size="large"))
    # What no whole patch covers is left unseen, as by the original's convolution; less than one patch is refused.
    assert open_checkpoint(original(tmp_path, "meter", image_size=own + 1)).config["image_size"] // 8 == own // 8
    with pytest.raises(InputError, match="patch"):
        open_checkpoint(original(tmp_path, "meter", image_size=3))


def test_the_size_that_a_vilt_names_is_its_shorter_side(tmp_path: Path) -> None:
    plain = open_checkpoint(original(tmp_path, "vilt"))
    found = open_checkpoint(original(tmp_path, "vilt", image_size=128))
    assert (settings_of(found).shorter, settings_of(found).divisor) == (128, 32)
    assert found.config["image_size"] == plain.config["image_size"], "the table is what it is"


@pytest.mark.parametrize(
    ("family", "good", "bad"),
    [("meter", "roberta-large", "bert-base-uncased"), ("vilt", "bert-base-cased", "roberta-base")],
)
def test_what_a_ckpt_says_of_texts(tmp_path: Path, family: str, good: str, bad: str) -> None:
    file = original(tmp_path, family, tokenizer=good, max_text_len=9)
    assert spec_of(open_checkpoint(file)).max_text == 9
    (tmp_path / "r.yaml").write_text(f"recipe: 1\nmodel: {family}\n")
    apply(file, tmp_path / "r.yaml", tmp_path / "out", text_length=9)
    assert spec_of(open_checkpoint(tmp_path / "out")).max_text == 9
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config.get("text", config)["max_text_len"] == 9
    with pytest.raises(InputError, match=f"name the tokenizer: '{bad}'"):
        open_checkpoint(original(tmp_path, family, tokenizer=bad))
    most = spec_of(open_checkpoint(original(tmp_path, family))).max_text
    for wrong in (most + 1, 1, "long"):
        with pytest.raises(InputError, match=f"max_text_len {wrong!r}; its text tower takes 2 to {most}"):
            open_checkpoint(original(tmp_path, family, max_text_len=wrong))


def test_pictures_that_keep_their_shape_are_refused_for_a_meter_by_the_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="val_transform_keys other than pixelbert"):
        spec_of(open_checkpoint(original(tmp_path, "meter", val_transform_keys=["pixelbert"])))
