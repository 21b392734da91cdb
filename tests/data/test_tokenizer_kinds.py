"""Which tokenizer a vocabulary alone is, and that none is made up."""

import json
from pathlib import Path
from typing import Any

import pytest

from pumer_convert.data.tokenizer import load_tokenizer
from pumer_convert.errors import InputError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "red", "##s"]
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "a", "c", "t", "ca", "\u0120", "<mask>"]


def bert(folder: Path) -> Path:
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return folder


def roberta(folder: Path) -> Path:
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(PIECES)}))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\n")
    return folder


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("vilt", None),
        ("meter", {"text": {"model_type": "bert"}}),
        ("vision-text-dual-encoder", None),
        ("vision-text-dual-encoder", {"text_config": {"model_type": "bert"}}),
    ],
)
def test_a_vocab_txt_is_of_bert(tmp_path: Path, family: str, config: dict[str, Any] | None) -> None:
    assert load_tokenizer(bert(tmp_path), family, config)("a red cats")["input_ids"] == [2, 5, 7, 6, 8, 3]


@pytest.mark.parametrize(
    ("family", "config"),
    [("meter", None), ("vision-text-dual-encoder", {"text_config": {"model_type": "roberta"}})],
)
def test_a_vocab_json_is_of_roberta(tmp_path: Path, family: str, config: dict[str, Any] | None) -> None:
    assert load_tokenizer(roberta(tmp_path), family, config)("cat")["input_ids"] == [0, 7, 6, 2]


@pytest.mark.parametrize(
    ("write", "family", "config", "kind"),
    [
        (bert, "meter", None, "RobertaTokenizer"),
        (bert, "vision-text-dual-encoder", {"text_config": {"model_type": "roberta"}}, "RobertaTokenizer"),
        (roberta, "vilt", None, "BertTokenizer"),
        (roberta, "meter", {"text": {"model_type": "bert"}}, "BertTokenizer"),
    ],
)
def test_none_is_made_up_where_the_files_are_of_another_kind(
    tmp_path: Path, write: Any, family: str, config: dict[str, Any] | None, kind: str
) -> None:
    with pytest.raises(InputError, match=rf"its tokenizer is read as a {kind}, of which there is no file \(.*vocab"):
        load_tokenizer(write(tmp_path), family, config)


def test_the_config_beside_it_says_which(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "meter", "text": {"model_type": "bert"}}))
    assert load_tokenizer(bert(tmp_path))("cat")["input_ids"] == [2, 6, 3]
