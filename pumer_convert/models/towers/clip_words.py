"""CLIP's merges, with one word more for masks than OpenAI has, as files of a tokenizer of transformers."""

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pumer_convert.errors import InputError

MERGES = "bpe_simple_vocab_16e6.txt.gz"
_MOST = 49152 - 256 - 2
"""Merges that CLIP takes of the file, whose first line is none."""
_MASK, _START, _END = "<|mask|>", "<|startoftext|>", "<|endoftext|>"


def words_beside(places: Iterable[Path], text: Mapping[str, Any]) -> dict[str, str]:
    """The files of the tokenizer for a tower of texts with these values, by the merges that lie beside one of the
    `places`; {} where there are none. Raises InputError for merges that do not make as many words as the tower has."""
    folders = dict.fromkeys(place if place.is_dir() else place.parent for place in places)
    file = next((folder / MERGES for folder in folders if (folder / MERGES).is_file()), None)
    if file is None:
        return {}
    try:
        with gzip.open(file) as stream:
            lines = stream.read().decode("utf-8").split("\n")[1 : _MOST + 1]
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as merges of CLIP ({error}); download it again.") from None
    merges = [tuple(line.split()) for line in lines if line.strip()]
    letters = _letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), _MASK, _START, _END]
    if any(len(pair) != 2 for pair in merges) or len(words) != text["vocab_size"]:
        raise InputError(
            f"{file}: its merges make {len(words)} words, and the tower of texts has {text['vocab_size']}; take the "
            "file that the model was trained with."
        )
    special = {"bos_token": _START, "eos_token": _END, "unk_token": _END, "pad_token": _END}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": text["max_position_embeddings"], **special}
    return {
        "vocab.json": json.dumps({word: i for i, word in enumerate(words)}, ensure_ascii=False),
        "merges.txt": "#version: 0.2\n" + "".join(f"{first} {second}\n" for first, second in merges),
        "tokenizer_config.json": json.dumps(settings, indent=2),
    }


def _letters() -> list[str]:
    """A letter for every byte, those that can be printed first (as in GPT-2)."""
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("\u00a1"), ord("\u00ac") + 1), *range(ord("\u00ae"), 256)]
    return [chr(byte) for byte in printed] + [chr(256 + i) for i in range(256 - len(printed))]
