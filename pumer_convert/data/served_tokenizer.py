"""The tokenizer of an exported model: a file that the package tokenizers reads, so that a served model needs neither
transformers nor torch to take a text."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from pumer_convert.data.tokenizer import fitted, load_tokenizer
from pumer_convert.errors import InputError, MissingDependencyError
from pumer_convert.models.family import family_of
from pumer_convert.weights import Checkpoint

ENDING = ".tokenizer.json"
"""What the file is named after the model's."""
SIDES = ("left", "right")
_PROBES = (
    "",
    " ",
    "What colour is the cat's hat?",
    "ÀÉÎõü straße 颜色 цвет لون \u4e28 🐈‍⬛",
    "a\tb\nc  d \u200b \u00a0 \ufeff \x00 e",
    "[CLS] [SEP] [PAD] [UNK] [MASK] <s> </s> <pad> <unk> <mask>",
    " ... (a) \u2581 b, \x1c\u2028C's: ½ ﬁ ΟΔΟΣ ΣΑΣ' \u0391\u03a3'\u0391 İẞ \u2581",
    "un-be-liev-ab-ly " * 60,
)
"""Texts that show where two tokenizers differ."""


class ServedTokenizer:
    """Texts to ids by the package tokenizers alone, called as a tokenizer of transformers is."""

    def __init__(self, text: str, truncation_side: str, encode_special_tokens: bool) -> None:
        """`text` is the tokenizer's JSON, whatever it says of truncation and padding; `truncation_side` "left" or
        "right" is where long texts are cut; with `encode_special_tokens` the names of special tokens in a text are
        words like others."""
        self.truncation_side = truncation_side
        self.backend_tokenizer, self._cutting = Tokenizer.from_str(text), Tokenizer.from_str(text)
        for tokenizer in (self.backend_tokenizer, self._cutting):
            tokenizer.no_truncation()
            tokenizer.no_padding()
            tokenizer.encode_special_tokens = encode_special_tokens

    def __call__(
        self, text: str, truncation: bool = False, max_length: int | None = None, verbose: bool = True
    ) -> dict[str, list[int]]:
        """The ids of a text under "input_ids", special ones included; with `truncation` at most `max_length`."""
        if not truncation or max_length is None:
            return {"input_ids": self.backend_tokenizer.encode(text).ids}
        if (self._cutting.truncation or {}).get("max_length") != max_length:
            self._cutting.enable_truncation(max_length, direction=self.truncation_side)
        return {"input_ids": self._cutting.encode(text).ids}

    def convert_ids_to_tokens(self, number: int) -> str | None:
        """The token of an id."""
        token: str | None = self.backend_tokenizer.id_to_token(number)
        return token


@dataclass(frozen=True)
class ServedForm:
    """A tokenizer as an export keeps it: `entry` goes into the sidecar, `text` into a file of its own.

    The entry says `longest` and `pad_token_id` as `Preprocessor` has them, how texts are cut, and the file.
    """

    entry: dict[str, Any]
    text: str


def served_form(checkpoint: Checkpoint, exported: str) -> ServedForm | None:
    """The checkpoint's tokenizer for the exported file of this name; None where there is none that fits the model, or
    where tokenizers alone does not make of a text what transformers does."""
    folder = checkpoint.companions[0].parent if checkpoint.companions else checkpoint.path
    family = family_of(checkpoint.family)
    if (text_input := family.spec(checkpoint.config).text) is None:
        return None
    try:
        tokenizer = load_tokenizer(folder, checkpoint.family, checkpoint.config)
        text_input = fitted(text_input, tokenizer, folder)
    except (InputError, MissingDependencyError):
        return None  # whoever gives a text is told
    if (backend := family.plain_tokenizer(tokenizer)) is None:
        return None
    text: str = backend.to_str()
    entry = {
        "file": exported + ENDING,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "longest": text_input.longest,
        "pad_token_id": text_input.pad_id,
        "truncation_side": tokenizer.truncation_side,
        "encode_special_tokens": bool(getattr(tokenizer, "split_special_tokens", False)),
    }
    served = of_entry(entry, text)
    for probe in _PROBES:
        cut = {"truncation": True, "max_length": text_input.longest}
        for how in ({"verbose": False}, cut):
            ids = served(probe, **how)["input_ids"]
            refused = text_input.vocabulary is not None and max(ids, default=0) >= text_input.vocabulary
            if not refused and ids != tokenizer(probe, **how)["input_ids"]:
                return None
    return ServedForm(entry, text)


def of_entry(entry: Mapping[str, Any], text: str) -> ServedTokenizer:
    """The tokenizer of a sidecar's entry and its file's JSON."""
    return ServedTokenizer(text, entry["truncation_side"], entry["encode_special_tokens"])


def read_served(entry: Mapping[str, Any], folder: Path) -> ServedTokenizer | None:
    """The tokenizer that a sidecar tells of, if its file lies in `folder`. Raises InputError for another file."""
    file = folder / entry["file"]
    if not file.is_file():
        return None
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise InputError(f"{file}: not the tokenizer that the sidecar tells of; export once more.")
    return of_entry(entry, content.decode())
