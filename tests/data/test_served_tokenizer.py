"""A served model takes texts by the package tokenizers alone, exactly as transformers does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
from PIL import Image

from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.data.served_tokenizer import ENDING, read_served, served_form
from pumer_convert.demo import CHECKPOINT
from pumer_convert.errors import InputError

TEXTS = ["", "What is this?", "É 颜色 🐈", "[SEP] a [MASK]", "word " * 100]


def copy(folder: Path, **changes: object) -> Path:
    """The demo's checkpoint with other values in tokenizer_config.json, read and saved by transformers."""
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (folder / name).symlink_to(CHECKPOINT / name)
    tokenizer = transformers.AutoTokenizer.from_pretrained(CHECKPOINT)
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"truncation_side": "left"},
        {"model_max_length": 7},
        {"do_lower_case": False},
        {"split_special_tokens": True},
    ],
)
def test_it_makes_the_ids_of_transformers(tmp_path: Path, changes: dict[str, object]) -> None:
    folder = copy(tmp_path / "ckpt", **changes)
    form = served_form(open_checkpoint(folder), "m.onnx")
    assert form is not None
    (tmp_path / f"m.onnx{ENDING}").write_text(form.text, "utf-8")
    own, theirs = read_served(form.entry, tmp_path), Preprocessor.of(folder)
    assert own is not None
    longest = min(40, int(str(changes.get("model_max_length", 40))))
    assert (form.entry["longest"], form.entry["pad_token_id"]) == (longest, theirs.pad_id)
    for text in TEXTS:
        assert own(text) == {"input_ids": theirs.tokenizer(text, verbose=False)["input_ids"]}
        cut = own(text, truncation=True, max_length=longest)["input_ids"]
        assert cut == theirs.tokenizer(text, truncation=True, max_length=longest)["input_ids"]
        assert len(cut) <= longest


def test_another_file_is_refused_and_none_is_no_fault(tmp_path: Path) -> None:
    form = served_form(open_checkpoint(CHECKPOINT), "m.onnx")
    assert form is not None
    assert read_served(form.entry, tmp_path) is None
    (tmp_path / form.entry["file"]).write_text(form.text.replace("red", "der"))
    with pytest.raises(InputError, match="not the tokenizer that the sidecar tells of"):
        read_served(form.entry, tmp_path)


def test_a_folder_without_a_tokenizer_has_none(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (tmp_path / name).symlink_to(CHECKPOINT / name)
    assert served_form(open_checkpoint(tmp_path), "m.onnx") is None


def test_a_served_pipeline_imports_neither_torch_nor_transformers(demo: Path, tmp_path: Path) -> None:
    Image.new("RGB", (96, 96), "red").save(tmp_path / "red.png")
    code = (
        "import sys; from pathlib import Path; from pumer_convert import Pipeline\n"
        f"answer = Pipeline(Path({str(demo / 'model.onnx')!r}), device='cpu')({str(tmp_path / 'red.png')!r}, 'what?')\n"
        "print(answer.text, [name for name in ('torch', 'transformers', 'accelerate') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip().endswith("[]")
