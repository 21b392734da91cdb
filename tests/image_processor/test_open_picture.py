"""Pictures as they lie on disks: what a picture is, and what is refused, the same wherever pictures are opened."""

import io
import json
import random
import re
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trt_input
from exported import exported
from pictures import noise
from PIL import Image, ImageOps

from pumer_convert import cli
from pumer_convert.data.formats import read_samples
from pumer_convert.data.sample import CellPicture, FilePicture
from pumer_convert.demo import CHECKPOINT
from pumer_convert.errors import InputError
from pumer_convert.evaluation.evaluate import evaluate
from pumer_convert.image_processor.open_picture import MAX_PIXELS, PictureError, as_rgb, open_picture, picture_format
from pumer_convert.runtime import Pipeline

GREY = np.arange(256, dtype=np.uint8).reshape(8, 32)


def file_of(image: Image.Image, kind: str, **more: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def same(found: Image.Image, expected: np.ndarray[Any, Any]) -> None:
    assert found.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(found), expected)


def turned(image: Image.Image, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return file_of(image, "PNG", exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_as_they_are_shown(orientation: int) -> None:
    data = turned(noise(7, 5), orientation)
    same(open_picture(data), np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))
    given = Image.open(io.BytesIO(data))
    same(as_rgb(given), np.asarray(open_picture(data)))
    assert given.getexif()[0x0112] == orientation, "what was given is left as it is"


@pytest.mark.parametrize("kind", ["TIFF", "WEBP", "JPEG"])
def test_an_orientation_counts_once_in_every_format(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = file_of(noise(9, 4), kind, exif=exif)
    assert open_picture(data).size == (4, 9)


def test_a_broken_exif_block_says_nothing_of_the_picture() -> None:
    for block in (b"Exif\0\0MM\0*\0\0", b"Exif\0\0nonsense", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"):
        data = file_of(noise(7, 5), "JPEG", exif=block)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL's, of the block
            assert open_picture(data).size == (7, 5)


def big_endian_tiff(values: np.ndarray[Any, Any]) -> bytes:
    """A TIFF of 16-bit grey, as microscopes write it; PIL itself writes the other order."""
    height, width = values.shape
    fields = ((256, 3, width << 16), (257, 3, height << 16), (258, 3, 16 << 16), (259, 3, 1 << 16), (262, 3, 1 << 16))
    fields += ((273, 4, 8 + 2 + 9 * 12 + 4), (277, 3, 1 << 16), (278, 3, height << 16), (279, 4, values.size * 2))
    head = struct.pack(">2sHIH", b"MM", 42, 8, len(fields))
    entries = b"".join(struct.pack(">HHII", tag, kind, 1, value) for tag, kind, value in fields)
    return head + entries + b"\0" * 4 + values.astype(">u2").tobytes()


@pytest.mark.parametrize(
    "data",
    [
        file_of(Image.fromarray(GREY.astype(np.uint16) * 257), "PNG"),
        file_of(Image.fromarray(GREY.astype(np.uint16) * 256), "TIFF"),
        file_of(Image.fromarray(GREY.astype(np.int32) * 257), "TIFF"),
        file_of(Image.fromarray(GREY.astype(np.int32)), "TIFF"),
        file_of(Image.fromarray(GREY.astype(np.uint16) * 257), "PPM"),
        big_endian_tiff(GREY.astype(np.uint16) * 257),
        file_of(Image.fromarray(GREY.astype(np.float32)), "TIFF"),
        file_of(Image.fromarray(GREY.astype(np.float32) / 255), "TIFF"),
        file_of(Image.fromarray(GREY), "PNG"),
    ],
)
def test_grey_of_any_depth_is_the_picture_it_shows(data: bytes) -> None:
    same(open_picture(data), np.stack([GREY] * 3, -1))


def test_dark_grey_of_sixteen_bits_stays_dark() -> None:
    dark = (GREY // 100).astype(np.uint16) * 100  # all below 256
    for kind in ("PNG", "PPM"):
        same(open_picture(file_of(Image.fromarray(dark), kind)), np.zeros((8, 32, 3)))


@pytest.mark.parametrize("values", [-1.0, 256.5, np.nan, np.inf])
def test_numbers_that_are_no_grey_are_refused(values: float) -> None:
    with pytest.raises(PictureError, match="no grey of 8 or 16 bits; save it as one"):
        as_rgb(Image.fromarray(np.full((3, 3), values, np.float32)))
    with pytest.raises(PictureError, match="from 70000 to 70000"):
        as_rgb(Image.fromarray(np.full((3, 3), 70000, np.int32)))


@pytest.mark.parametrize("mode", ["1", "L", "P", "PA", "LA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"])
def test_every_other_mode_is_what_transformers_makes_of_it(mode: str) -> None:
    image = noise(9, 6).convert("P" if mode == "PA" else mode)
    image = image.convert(mode)
    same(as_rgb(image), np.asarray(image.convert("RGB")))
    assert image.mode == mode


def test_transparency_is_dropped_without_a_word() -> None:
    image = noise(16, 16).convert("P")
    for transparency in (b"\0\x80", 3):
        data = file_of(image, "PNG", transparency=transparency)
        same(open_picture(data), np.asarray(image.convert("RGB")))
        given = Image.open(io.BytesIO(data))
        as_rgb(given)
        assert given.info["transparency"] == transparency
    colours = noise(5, 5)
    half = colours.copy()
    half.putalpha(40)
    same(as_rgb(half), np.asarray(colours))


def test_of_an_animation_the_first_picture_counts() -> None:
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        more = {"lossless": True} if kind == "WEBP" else {}
        data = file_of(frames[0], kind, save_all=True, append_images=frames[1:], **more)
        same(open_picture(data), np.asarray(frames[0]))


# What is refused.


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "words.jpg").write_text("these are words, not a picture")
    whole = file_of(noise(60, 60), "PNG")
    (tmp_path / "cut.png").write_bytes(whole[:-900])
    for name, says in (
        (".", "it is a folder, not a picture"),
        ("none.png", "there is no such picture"),
        ("empty.png", "a file of 0 bytes"),
        ("words.jpg", "it is of no format that is known"),
        ("cut.png", r"cannot be read \(OSError: image file is truncated"),
    ):
        with pytest.raises(PictureError, match=says):
            open_picture(tmp_path / name)
        with pytest.raises(InputError) as error:
            FilePicture(tmp_path / name).open()
        assert str(error.value).startswith(f"{tmp_path / name}: ")
        assert "\n" not in str(error.value)
    for address in ("https://example.org/a.png", Path("https://example.org/a.png"), "data:image/png;base64,AAAA"):
        with pytest.raises(PictureError, match="it is an address, and pictures are read from files; download it"):
            open_picture(address)
    with pytest.raises(PictureError, match="no such picture"):
        open_picture("a\0b.png")
    with pytest.raises(PictureError, match="a file of 0 bytes"):
        open_picture(b"")


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "it is HEIC, as telephones write; save it as JPEG or PNG"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "it is a video"),
        (b"%PDF-1.7\n", "it is a PDF"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg">', "it is SVG"),
        (b"<!DOCTYPE html><html>403 Forbidden", "it is a web page; download the picture itself"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab", "it is a Git LFS pointer"),
        (b"\x1f\x8b\x08", "it is compressed; unpack it first"),
        (b"\x93NUMPY\x01\0", "it is an array of numpy"),
    ],
)
def test_what_is_often_taken_for_a_picture_is_named(first: bytes, says: str) -> None:
    with pytest.raises(PictureError, match=re.escape(f"the picture cannot be read ({says}")):
        open_picture(first + b" " * 100)


def test_an_address_that_holds_the_whole_picture_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^data:image/png;base64,A{38}\.\.\.: it is an address") as error:
        Pipeline(CHECKPOINT)("data:image/png;base64," + "A" * 100_000, "what")
    assert len(str(error.value)) < 200


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero")
def test_a_device_is_no_picture() -> None:
    with pytest.raises(PictureError, match="not a file that can be read"):
        open_picture("/dev/zero")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "TGA", "ICO", "PPM", "DDS", "PCX"])
def test_whatever_a_decoder_says_of_broken_bytes_is_one_kind_of_error(kind: str) -> None:
    whole, dice = file_of(noise(48, 48), kind), random.Random(1)
    refused = 0
    for _ in range(150):
        bad = bytearray(whole)
        for _ in range(dice.choice((1, 3, 20))):
            bad[dice.randrange(min(len(bad), 400))] = dice.randrange(256)
        data = bytes(bad)[: dice.randrange(1, len(bad)) if dice.random() < 0.3 else None]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert open_picture(data).mode == "RGB"
            except PictureError:
                refused += 1
    assert refused > 5


def test_the_limit_of_pixels_is_the_callers() -> None:
    data = file_of(Image.new("1", (1000, 200)), "PNG")
    assert open_picture(data, 200_000).size == (1000, 200)
    for call in (open_picture, picture_format):
        with pytest.raises(PictureError, match="1000x200 pixels is larger than the limit of 199999"):
            call(data, 199_999)
    with pytest.raises(PictureError, match="larger than the limit"):
        as_rgb(Image.new("L", (10, 10)), 99)


def test_the_limit_is_not_pils_and_pils_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 2 * (Image.MAX_IMAGE_PIXELS or 0) == MAX_PIXELS
    data = file_of(Image.new("1", (1000, 200)), "PNG")
    for limit in (150_000, 50_000):  # between which PIL warns, and where it refuses
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert open_picture(data).size == (1000, 200)
        assert limit == Image.MAX_IMAGE_PIXELS


# Everywhere.


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def write(name: str, data: bytes) -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


def command(monkeypatch: pytest.MonkeyPatch, *words: Any) -> int:
    monkeypatch.setattr("sys.argv", ["pumer-convert", *map(str, words)])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_every_way_in_sees_the_same_picture(
    tmp_path: Path,
    made: Callable[[str, bytes], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = noise(96, 96, 4)
    upright = made("upright.png", file_of(image, "PNG"))
    file = made("turned.png", turned(image.transpose(Image.Transpose.ROTATE_90), 6))
    pipeline = Pipeline(CHECKPOINT, device="cpu")
    expected = pipeline.pixels(upright)
    np.testing.assert_array_equal(pipeline.pixels(file), expected)
    np.testing.assert_array_equal(pipeline.pixels(str(file)), expected)
    with Image.open(file) as opened:
        np.testing.assert_array_equal(pipeline.pixels(opened), expected)
        opened.load()
    for value in (opened.copy(), {"bytes": file.read_bytes(), "path": None}, {"bytes": None, "path": str(file)}):
        cell = CellPicture("a cell", [{"image": value}], 0, "image")
        np.testing.assert_array_equal(pipeline.pixels(cell.open()), expected)
    (tmp_path / "d.jsonl").write_text(json.dumps({"image": "turned.png", "text": "is it?", "answers": ["no"]}))
    (sample,) = read_samples(tmp_path / "d.jsonl", "vqa", check="decode").samples
    np.testing.assert_array_equal(pipeline.pixels(sample.pictures[0].open()), expected)
    (tmp_path / "out").mkdir()
    model = exported(CHECKPOINT, tmp_path / "out")
    written = []
    for picture in (upright, file):
        assert trt_input.main([str(model), str(tmp_path / "in.npz"), "--text", "is it?", "--image", str(picture)]) == 0
        with np.load(tmp_path / "in.npz") as found:
            written.append({name: found[name].tolist() for name in found})
    assert written[0] == written[1]
    told = []
    for picture in (upright, file):
        assert command(monkeypatch, "run", CHECKPOINT, "--image", picture, "--text", "is it?", "--json") == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0] == told[1]


def test_a_cell_that_holds_no_picture() -> None:
    for value in (None, {"bytes": None, "path": None}, "words"):
        with pytest.raises(InputError, match="a cell: there is no picture"):
            CellPicture("a cell", [{"image": value}], 0, "image").open()
    with pytest.raises(InputError, match="a cell: the picture cannot be read"):
        CellPicture("a cell", [{"image": []}], 0, "image", 3).open()


def test_what_is_refused_ends_with_two_and_a_sentence(
    tmp_path: Path,
    made: Callable[[str, bytes], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = made("wide.png", file_of(noise(100, 50), "PNG"))
    (tmp_path / "d.jsonl").write_text(json.dumps({"image": "wide.png", "text": "is it?", "answers": ["no"]}))
    ask = ("--image", file, "--text", "is it?")
    for words in (
        ("run", CHECKPOINT, *ask),
        ("show", CHECKPOINT, *ask, "-o", tmp_path / "shown.png"),
        ("evaluate", CHECKPOINT, "--data", tmp_path / "d.jsonl", "--device", "cpu"),
        ("distill", CHECKPOINT, "--data", tmp_path / "d.jsonl", "-o", tmp_path / "distilled"),
    ):
        assert command(monkeypatch, *words, "--max-pixels", 4999) == 2
        error = capsys.readouterr().err
        assert "wide.png: a picture of 100x50 pixels is larger than the limit of 4999" in error
    assert not (tmp_path / "shown.png").exists()
    assert command(monkeypatch, "run", CHECKPOINT, *ask, "--max-pixels", 5000) == 0
    assert evaluate(CHECKPOINT, tmp_path / "d.jsonl", device="cpu", max_pixels=5000).examples == 1
    pipeline = Pipeline(CHECKPOINT, device="cpu", max_pixels=10)
    for picture in (file, Image.new("1", (11, 1))):
        with pytest.raises(InputError, match="larger than the limit of 10"):
            pipeline(picture, "is it?")
    with pytest.raises(InputError, match="a picture is a file or a PIL image here, not a ndarray"):
        pipeline([np.zeros((3, 3))], "is it?")  # type: ignore[list-item]
