"""What a sidecar says holds together, or it is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_siglip

from pumer_convert.artifact.describe import describe
from pumer_convert.artifact.sidecar import read_sidecar
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.errors import InputError

LENGTH = tiny_siglip.TEXT["max_position_embeddings"]
CUT = {"file": "a.json", "sha256": "", "pad_token_id": 0, "truncation_side": "right", "encode_special_tokens": False}


@pytest.mark.parametrize(
    ("changed", "whole"),
    [
        ({}, True),
        ({"length": None}, True),
        ({"length": LENGTH - 1}, False),
        ({"longest": LENGTH + 1}, False),
        ({"tokenizer": {**CUT, "longest": LENGTH}}, True),
        ({"tokenizer": {**CUT, "longest": LENGTH + 1}}, False),
    ],
)
def test_the_longest_text_fits_into_a_fixed_length(tmp_path: Path, changed: dict[str, Any], whole: bool) -> None:
    told = describe(open_checkpoint(tiny_siglip.write(tmp_path, "SiglipTextModel")), None)
    assert told["text"]["length"] == told["text"]["longest"] == LENGTH
    told |= {"dtype": "float32", "onnx": {"file": "text.onnx"}, "text": {**told["text"], **changed}}
    (tmp_path / "text.onnx.json").write_text(json.dumps(told))
    if whole:
        assert read_sidecar(tmp_path / "text.onnx")["text"]["longest"] == LENGTH
    else:
        with pytest.raises(InputError, match="not a sidecar that pumer-convert wrote"):
            read_sidecar(tmp_path / "text.onnx")
