"""What a processor's file says: pixels as transformers' PIL processors make them, or a refusal that names the key."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import noise
from PIL import Image

from pumer_convert.checkpoint.read import NO_PROCESSOR, open_checkpoint
from pumer_convert.convert.apply import apply
from pumer_convert.convert.load import load
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.demo import CHECKPOINT
from pumer_convert.errors import InputError
from pumer_convert.image_processor.pixels import ImageSettings, to_pixels
from pumer_convert.image_processor.settings import CLASSES, image_settings
from pumer_convert.image_processor.tiles import to_tiles
from pumer_convert.weights import processor_of

SHAPES = ((96, 96), (64, 48), (48, 64), (333, 500), (500, 225), (31, 17), (100, 41), (7, 90), (224, 224), (120, 641))


TILED = ("Idefics3", "SmolVLM")
"""Kinds that know a longest_edge alone, and cut pictures into tiles."""
STEPWISE = ("Vilt", "BridgeTower")
"""Kinds that know a shortest_edge alone, and make sides that are multiples of size_divisor."""


def theirs(kind: str) -> Any:
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
    from transformers.models.bridgetower.image_processing_pil_bridgetower import BridgeTowerImageProcessorPil
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
    from transformers.models.vilt.image_processing_pil_vilt import ViltImageProcessorPil
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    made = (BitImageProcessorPil, BridgeTowerImageProcessorPil, CLIPImageProcessorPil, SiglipImageProcessorPil)
    made += (ViltImageProcessorPil, ViTImageProcessorPil, LlavaImageProcessorPil, Gemma3ImageProcessorPil)
    made += (LlavaOnevisionImageProcessorPil, Idefics3ImageProcessorPil, SmolVLMImageProcessorPil)
    made += (GotOcr2ImageProcessorPil,)
    return next(one for one in made if one.__name__ == f"{kind}ImageProcessorPil")


def drawn(dice: random.Random, kind: str) -> dict[str, Any]:
    """Values such as files have; any of them may be absent."""
    shortest = dice.choice((32, 41, 96, 224))
    sizes: list[Any] = [shortest, {"shortest_edge": shortest}, {"shortest_edge": shortest, "longest_edge": 120}]
    if kind not in STEPWISE:
        sizes += [{"height": 50, "width": 70}, [40, 60]]
    if kind in TILED:
        sizes = [{"longest_edge": dice.choice((20, 61, 96, 200))}, {"height": 50, "width": 70}, [40, 60], shortest]
    whole = {
        "do_resize": dice.choice((True, True, True, False, None)),
        "size": dice.choice(sizes),
        "resample": dice.choice((0, 1, 2, 3, 4, 5)),
        "do_center_crop": dice.choice((True, False, None)),
        "crop_size": dice.choice((45, 224, {"height": 33, "width": 80}, [30, 20])),
        "do_rescale": dice.choice((True, True, False, None)),
        "rescale_factor": dice.choice((1 / 255, 0.00392156862745098, 1 / 127.5)),
        "do_normalize": dice.choice((True, True, False, None)),
        "image_mean": dice.choice(([0.485, 0.456, 0.406], 0.5)),
        "image_std": dice.choice(([0.229, 0.224, 0.225], 0.25)),
        "do_pad": dice.choice((True, False, None)),
        "do_convert_rgb": dice.choice((True, False, None)),
        "default_to_square": dice.choice((True, False, None)) if kind not in STEPWISE else False,
    }
    if kind in STEPWISE:
        whole["size_divisor"] = dice.choice((8, 16, 32))
    if kind in TILED:
        whole["max_image_size"] = {"longest_edge": dice.choice((24, 48, 64))}
        whole["do_image_splitting"] = dice.choice((True, True, False, None))
    if kind == "BridgeTower":
        whole["crop_size"] = {"shortest_edge": dice.choice((45, 224))}
    if kind == "Llava":
        whole["image_mean"] = [0.485, 0.456, 0.406]  # its padding has a colour of three numbers
    drawn = {key: value for key, value in whole.items() if dice.random() < 0.7}
    if kind == "LlavaOnevision":
        side = dice.choice((24, 48, 64))
        drawn |= {"size": {"height": side, "width": side}, "do_resize": True, "do_center_crop": None}
        drawn["crop_size"] = dice.choice((None, side))
        drawn["image_grid_pinpoints"] = [[side * i, side * j] for i in range(1, 5) for j in range(1, 5)]
    return drawn


def compared_with(expected: Any, image: Image.Image, settings: ImageSettings) -> tuple[Any, Any]:
    """Our pixels of a picture and theirs, of all tiles where they are several."""
    if np.ndim(expected[0]) == 3:
        return np.stack(to_tiles(image, settings)), np.stack(expected)
    return to_pixels(image, settings), expected


@pytest.mark.parametrize("kind", CLASSES)
def test_the_pixels_are_those_of_transformers_whatever_the_file_says(kind: str) -> None:
    dice, compared, refused = random.Random(5), 0, 0
    for _ in range(60):
        values = drawn(dice, kind)
        make = theirs(kind)(**values)
        try:
            settings = image_settings({"image_processor_type": f"{kind}ImageProcessor", **values}, "")
        except InputError:
            with pytest.raises(ValueError, match="must be"):
                make(noise(9, 9))
            continue
        for shape in dice.sample(SHAPES, 3):
            image = noise(*shape)
            try:
                expected = make(image)["pixel_values"][0]
            except ValueError:
                with pytest.raises(ValueError, match="too thin"):
                    to_pixels(image, settings)
                refused += 1
                continue
            ours, expected = compared_with(expected, image, settings)
            assert ours.dtype == np.float32
            np.testing.assert_allclose(ours, expected, atol=1e-6, rtol=1e-6, err_msg=str(values))
            assert settings.size in (None, expected.shape[-2:])
            if (largest := settings.largest()) is not None:
                assert min(expected.shape[1:]) <= largest[0]
                assert max(expected.shape[1:]) <= largest[1]
            compared += 1
    assert compared > 120
    assert (kind in STEPWISE) == (refused > 0), "ViLT's rule leaves nothing of a very thin picture"


@pytest.mark.parametrize("kind", CLASSES)
def test_absent_keys_have_the_defaults_of_their_class(kind: str) -> None:
    values, image = theirs(kind)().to_dict(), noise(333, 250)
    for given in ({}, values, {"image_processor_type": f"{kind}ImageProcessorFast"}):
        settings = image_settings(given, f"{kind}FeatureExtractor")
        ours, expected = compared_with(theirs(kind)()(image)["pixel_values"][0], image, settings)
        np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_largest_is_told_of_pictures_that_keep_their_shape() -> None:
    vilt = {"size": 384, "size_divisor": 32}
    assert image_settings(vilt, "ViltImageProcessor").largest() == (384, 608)
    assert image_settings({"do_resize": False}, "ViltImageProcessor").largest() is None
    assert image_settings({}, "CLIPImageProcessor").largest() is None


ANYRES = {"image_processor_type": "LlavaOnevisionImageProcessor"}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"image_processor_type": "BlipImageProcessor"}, "is of a 'BlipImageProcessor', which is not read here"),
        ({"do_flip_channel_order": True}, "says 'do_flip_channel_order', which is not understood"),
        ({"image_maen": [0.5] * 3}, r"says 'image_maen', which is not understood. Did you mean 'image_mean'\?"),
        ({"size": {"longest_edge": 90}}, "size {'longest_edge': 90}; it has to be a shortest_edge"),
        ({"size": None}, "size None"),
        ({"size": "384"}, "size '384'"),
        ({"size": True}, "size True"),
        ({"resample": None}, "resample None; it has to be 0 to 5 or one of nearest"),
        ({"resample": "cubic"}, "resample 'cubic'"),
        ({"rescale_factor": None}, "rescale_factor None; it has to be a number"),
        ({"image_mean": None}, "image_mean None; it has to be numbers"),
        ({"image_mean": [0.5, 0.5]}, "3 in all, not 2"),
        ({"image_std": [0.5, 0, 0.5]}, "image_std .* other than 0"),
        ({"do_resize": "no"}, "do_resize 'no'; it has to be true or false"),
        ({"do_center_crop": True, "crop_size": None}, "crop_size None"),
        (
            {**ANYRES, "do_resize": False},
            "equal height and width, with do_r",
        ),
        ({**ANYRES, "size": 384}, "has to be an equal height and width"),
        (
            {**ANYRES, "do_center_crop": True, "crop_size": 9},
            "to be false",
        ),
        ({**ANYRES, "crop_size": 224}, "crop_size 224; it has to be the size"),
        ({**ANYRES, "image_grid_pinpoints": []}, "a list of heights and"),
        ({**ANYRES, "image_grid_pinpoints": [[384, 400]]}, "multiples"),
        ({"do_image_splitting": True}, "says 'do_image_splitting', which is not understood"),
        ({"image_processor_type": "SmolVLMImageProcessor", "max_image_size": 64}, "it has to be a longest_edge"),
        ({"image_processor_type": "Idefics3ImageProcessor", "max_image_size": None}, "max_image_size None"),
        (
            {"image_processor_type": "Idefics3ImageProcessor", "size": {"shortest_edge": 64}},
            "it has to be a longest_edge, or a height and a width",
        ),
        ({"do_pad": True, "pad_size": {"height": 9, "width": 9}}, "'pad_size'"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(values: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        image_settings(values, "CLIPImageProcessor")


def test_names_of_filters_and_keys_that_ask_for_nothing() -> None:
    assert image_settings({"resample": "bilinear"}, "CLIPImageProcessor").filter == 2
    assert image_settings({"resample": "PILImageResampling.LANCZOS"}, "CLIPImageProcessor").filter == 1
    plain = image_settings({}, "CLIPImageProcessor")
    odd = {
        "do_flip_channel_order": False,
        "pad_and_return_pixel_mask": True,
        "crop_pct": None,
        "processor_class": "X",
        "_valid_processor_keys": ["size"],
    }
    assert image_settings(odd, "CLIPImageProcessor") == plain


def test_a_picture_that_would_be_enormous_is_refused() -> None:
    with pytest.raises(ValueError, match="3000x1 pixels are too thin, they would be resized to 1500000x500"):
        to_pixels(Image.new("RGB", (3000, 1)), ImageSettings("crop", (9, 9), shorter=500))


# Files of a folder.


def copied(folder: Path, **files: Any) -> Path:
    """The demo's checkpoint with these values in place of its processor's file."""
    shutil.copytree(CHECKPOINT, folder)
    (folder / "preprocessor_config.json").unlink()
    for name, values in files.items():
        (folder / f"{name}.json").write_text(json.dumps(values), "utf-8-sig")
    return folder


CLIP = {"image_processor_type": "CLIPImageProcessor", "size": 96, "crop_size": 96}
SQUASH = {"image_processor_type": "ViTImageProcessor", "size": 96}


@pytest.mark.parametrize(
    ("files", "fit"),
    [
        ({"processor_config": {"image_processor": CLIP, "processor_class": "ViltProcessor"}}, "crop"),
        ({"processor_config": {"image_processor": CLIP}, "preprocessor_config": SQUASH}, "crop"),
        ({"processor_config": {"processor_class": "ViltProcessor"}, "preprocessor_config": SQUASH}, "squash"),
        ({"processor_config": CLIP}, "crop"),
        ({"processor_config": CLIP, "preprocessor_config": SQUASH}, "squash"),
    ],
)
def test_which_file_says_it(tmp_path: Path, files: dict[str, Any], fit: str) -> None:
    folder = copied(tmp_path / "ckpt", **files)
    values = processor_of(folder, folder.iterdir())
    assert values is not None
    assert image_settings(values, "").fit == fit
    assert open_checkpoint(folder).processor == values
    assert Preprocessor.of(folder).image.fit == fit
    (tmp_path / "r.yaml").write_text("recipe: 1\nmodel: vilt\nimage_size: 64\n")
    apply(folder, tmp_path / "r.yaml", tmp_path / "small")
    assert (image := Preprocessor.of(tmp_path / "small").image).fit == fit
    assert image.size == (64, 64), "the old size is told nowhere"


def test_a_folder_without_one_is_told_what_is_done(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(copied(tmp_path / "ckpt"))
    assert NO_PROCESSOR.format("ViltImageProcessor", 96) in checkpoint.notes
    values = checkpoint.processor
    assert values is not None
    assert image_settings(values, "").shorter == 96
    assert NO_PROCESSOR.format("ViltImageProcessor", 96) not in open_checkpoint(CHECKPOINT).notes
    assert Preprocessor.of(tmp_path / "ckpt").image == Preprocessor.of(CHECKPOINT).image


def test_the_model_is_one_for_the_pictures_that_the_processor_makes(tmp_path: Path) -> None:
    import torch

    folder = copied(tmp_path / "ckpt", preprocessor_config={**SQUASH, "size": [64, 80]})
    checkpoint = open_checkpoint(folder)
    assert checkpoint.config["image_size"] == [64, 80]
    assert "64x80 pixels; the positions are interpolated" in checkpoint.notes[-1]
    assert Preprocessor.of(folder).image.size == (64, 80)
    inputs = (torch.tensor([[2, 7, 3]]), torch.ones(1, 3, dtype=torch.int64), torch.randn(1, 3, 64, 80))
    with torch.no_grad():
        assert torch.equal(load(folder)(*inputs).logits, load(CHECKPOINT, image_size=[64, 80])(*inputs).logits)
    (folder / "preprocessor_config.json").write_text(json.dumps({**SQUASH, "size": 100}))
    inputs = (*inputs[:2], torch.randn(1, 3, 100, 100))
    with torch.no_grad():
        # As in transformers, what no whole patch covers is not seen.
        whole = load(CHECKPOINT, image_size=96)(*inputs[:2], inputs[2][..., :96, :96]).logits
        torch.testing.assert_close(load(folder)(*inputs).logits, whole, atol=1e-6, rtol=1e-5)
    (folder / "preprocessor_config.json").write_text(json.dumps({**SQUASH, "size": 7}))
    with pytest.raises(InputError, match="the processor's size is 7x7 pixels, which have no whole patch of 8x8"):
        open_checkpoint(folder)
