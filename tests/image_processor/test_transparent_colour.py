"""Pictures in which one colour stands for transparency, as in most GIFs: transformers' processors that make pictures
RGB lay them on white, even when its `load_image` has made them RGB before; the others see the colour."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import noise
from PIL import Image
from test_processor_values import theirs
from transformers.image_utils import load_image

from pumer_convert.image_processor.open_picture import open_picture
from pumer_convert.image_processor.settings import CLASSES, image_settings
from pumer_convert.image_processor.tiles import to_tiles
from pumer_convert.models.transforms import squashed, transform


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Of a palette, turned, grey, and RGB."""
    flat = noise(60, 44).quantize(4)
    grey = flat.convert("L")
    colour = flat.convert("RGB").getpixel((0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    flat.save(tmp_path / "palette.png", transparency=flat.getpixel((0, 0)))
    flat.save(tmp_path / "palette.gif", transparency=flat.getpixel((0, 0)))
    flat.save(tmp_path / "turned.png", transparency=flat.getpixel((0, 0)), exif=exif)
    grey.save(tmp_path / "grey.png", transparency=grey.getpixel((0, 0)))
    flat.convert("RGB").save(tmp_path / "rgb.png", transparency=colour)
    return sorted(tmp_path.iterdir())


@pytest.mark.parametrize("told", [{}, {"do_convert_rgb": True}, {"do_convert_rgb": False}, {"do_convert_rgb": None}])
@pytest.mark.parametrize("kind", CLASSES)
def test_it_becomes_white_where_transformers_makes_it_so(files: list[Path], kind: str, told: dict[str, Any]) -> None:
    settings = image_settings({"image_processor_type": f"{kind}ImageProcessor", **told}, "")
    make, plain = theirs(kind)(**told), image_settings({"do_convert_rgb": False}, f"{kind}ImageProcessor")
    for file in files:
        got = np.stack(to_tiles(open_picture(file), settings))
        with Image.open(file) as opened:  # of a path, load_image would leave a GIF open
            want = np.asarray(make(load_image(opened))["pixel_values"][0]).reshape(-1, *got.shape[1:])
        np.testing.assert_allclose(got, want, atol=1e-6, err_msg=file.name)
        coloured = np.stack(to_tiles(open_picture(file), plain))
        assert settings.on_white != np.array_equal(got, coloured), "it is a colour there"


def test_the_pictures_of_originals_keep_the_colour(files: list[Path]) -> None:
    for values in (squashed(44), transform("clip", 44), transform("pixelbert", 44)):
        assert not image_settings(values, "").on_white


def test_a_picture_tells_the_colour_and_no_more(files: list[Path]) -> None:
    for file in files:
        image = open_picture(file)
        assert list(image.info) == ["transparency"]
        assert image.info["transparency"] in {colour for _, colour in image.getcolors() or ()}
