"""A tokenizer that fails on every text, whichever way, is refused in one sentence."""

import json
from pathlib import Path

import pytest
import tiny_siglip

from pumer_convert.data.tokenizer import load_tokenizer
from pumer_convert.errors import InputError


def test_an_end_of_texts_without_a_token(tmp_path: Path) -> None:
    tiny_siglip.write_sentencepiece(tmp_path, eos_token=None, pad_token="<unk>")
    with pytest.raises(InputError, match=r"its tokenizer cannot be loaded \(a token that it puts into every text"):
        load_tokenizer(tmp_path, "siglip")


@pytest.mark.parametrize("alone", [False, True])
def test_a_file_at_which_the_package_tokenizers_panics(tmp_path: Path, alone: bool) -> None:
    tiny_siglip.write_gemma(tmp_path)
    file = tmp_path / "tokenizer.json"
    told = json.loads(file.read_text())
    told["post_processor"]["special_tokens"] = {}
    file.write_text(json.dumps(told))
    if alone:
        (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(InputError, match="its tokenizer cannot be loaded"):
        load_tokenizer(tmp_path, None if alone else "siglip")
