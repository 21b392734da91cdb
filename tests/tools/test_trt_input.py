"""tools/trt_app/trt_input.py: the file it writes holds what a pipeline feeds its model."""

from pathlib import Path

import numpy as np
import pytest
import trt_input
from exported import exported
from PIL import Image

from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.demo import CHECKPOINT
from pumer_convert.demo.world import samples


@pytest.mark.parametrize("task", ["vqa", "nlvr2"])
def test_it_writes_the_inputs_of_one_example(tmp_path: Path, task: str) -> None:
    checkpoint = CHECKPOINT if task == "vqa" else CHECKPOINT.parent / task
    model, sample = exported(checkpoint, tmp_path), next(iter(samples(task, "test", 1)))
    pictures = [picture.open() for picture in sample.images]
    words = [str(model), str(tmp_path / "input.npz"), "--text", sample.text]
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / f"{i}.png")
        words += ["--image", str(tmp_path / f"{i}.png")]
    assert trt_input.main(words) == 0
    preprocessor = Preprocessor.of(checkpoint)
    ids, mask = preprocessor.text([sample.text])
    pixels = np.stack([preprocessor.pixels(picture) for picture in pictures])
    with np.load(tmp_path / "input.npz") as found:
        assert set(found) == {"input_ids", "attention_mask", "pixel_values"}
        np.testing.assert_array_equal(found["input_ids"], ids)
        np.testing.assert_array_equal(found["attention_mask"], mask)
        np.testing.assert_array_equal(found["pixel_values"], pixels if task == "vqa" else pixels[None])
    assert trt_input.main([*words, "--pad-to", "20"]) == 0
    with np.load(tmp_path / "input.npz") as found:
        assert found["input_ids"].shape == found["attention_mask"].shape == (1, 20)
        assert found["attention_mask"].sum() == mask.sum()


def test_what_it_cannot_write_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = exported(CHECKPOINT, tmp_path)
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")

    def refused(says: str, *words: str, out: str = "input.npz") -> None:
        assert trt_input.main([str(model), str(tmp_path / out), "--text", "what", *words]) == 2
        assert says in capsys.readouterr().err
        assert not (tmp_path / out).is_file()

    image = ("--image", str(tmp_path / "a.png"))
    refused("2 picture(s), but 'vqa' takes 1", *image, *image)
    refused("a text of 99 tokens does not fit", *image, "--pad-to", "99")
    refused("the picture cannot be read", "--image", str(model.with_name("model.onnx.json")))
    refused("not be written", *image, out="none/input.npz")
    model.with_name("model.onnx.json").unlink()
    refused("its sidecar model.onnx.json is missing", *image)
