"""Beside the weights lie files of several kinds: a tokenizer's and a processor's go along, nothing else does."""

import shutil
from pathlib import Path

import pytest
import tiny
import transformers
from PIL import Image

from pumer_convert.checkpoint.companions import companions
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.apply import apply
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.demo import CHECKPOINT
from pumer_convert.errors import InputError
from pumer_convert.system.json_file import parse_object, read_object

STRAYS = ("model.onnx.json", "model.int8.onnx.json", "model.engine.json", "report.json", "trainer_state.json")
STRAYS += ("model.safetensors.index.json", "adapter.json", "requirements.txt", "notes.txt", "front.json")


def test_what_transformers_saves_goes_along_and_nothing_else(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(CHECKPOINT, tmp_path / "ckpt"))
    for name in STRAYS:
        (folder / name).write_text("{}")
    tokenizer = transformers.AutoTokenizer.from_pretrained(CHECKPOINT)
    saved = {Path(name).name for name in tokenizer.save_pretrained(tmp_path / "tokenizer")}
    saved |= {file.name for file in (tmp_path / "tokenizer").iterdir()}
    shutil.copytree(tmp_path / "tokenizer", folder, dirs_exist_ok=True)
    found = {file.name for file in companions(folder)}
    assert {file.name for file in (tmp_path / "tokenizer").iterdir()} <= found
    assert "preprocessor_config.json" in found
    assert not found & set(STRAYS)
    apply(folder, tiny.recipe(tmp_path / "r.yaml", tiny.PUMER), tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").iterdir()} & set(STRAYS) == {"report.json"}


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_marks_of_windows_tools(tmp_path: Path, coding: str) -> None:
    folder = Path(shutil.copytree(CHECKPOINT, tmp_path / "ckpt"))
    for name in ("config.json", "preprocessor_config.json"):
        (folder / name).write_text((folder / name).read_text("utf-8"), coding)
    found = open_checkpoint(folder)
    assert found.config == open_checkpoint(CHECKPOINT).config
    assert found.processor == open_checkpoint(CHECKPOINT).processor


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not readable"),
        ("[1]", "not a JSON object"),
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "Infinity"),
        ('{"a": 1e999}', "too large"),
        ('{"a": ' + "9" * 5000 + "}", "not readable"),
        ('{"a": 1, "a": 2}', "'a' stands there twice"),
        ('{"a":' * 100_000, "nested too deeply"),
    ],
    ids=lambda text: text[:20],
)
def test_json_that_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=rf"config\.json .*{says}"):
        read_object(tmp_path / "config.json")


def test_a_value_that_stands_there_twice_is_one_value() -> None:
    assert parse_object('{"a": 1, "a": 1}', "here") == {"a": 1}


def test_a_picture_too_thin_for_its_processor_is_refused() -> None:
    with pytest.raises(InputError, match="too thin"):
        Preprocessor.of(CHECKPOINT).pixels(Image.new("RGB", (1, 60_000)))


def test_a_name_longer_than_names_can_be(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(CHECKPOINT, tmp_path / "ckpt"))
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "' + "x" * 300 + '"}}')
    with pytest.raises(InputError, match="is not there"):
        open_checkpoint(folder)
