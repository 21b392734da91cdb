"""The tokenizer of a checkpoint, as transformers loads it for such a model, and whether it is the model's."""

import codecs
import importlib.util
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pumer_convert.checkpoint.companions import TOKENIZERS, check_links
from pumer_convert.errors import InputError, MissingDependencyError, PumerError, missing, ways_to
from pumer_convert.models.family import FAMILIES, family_of
from pumer_convert.models.inputs import IDS, MASK, TextInput
from pumer_convert.system.json_file import read_object
from pumer_convert.system.quiet import errors_alone

_BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt")
_PLACEHOLDER = re.compile(r"▁?<[^<>]+>")
"""Words that no text has: T5's <extra_id_7> and the like, for which a model may have no embedding."""


def load_tokenizer(folder: Path, family: str | None = None, config: Mapping[str, Any] | None = None) -> Any:
    """The tokenizer in a folder, for a model of `family` (None: the one that its config.json names) with this config
    (None: its config.json, where there is one).

    tokenizer_config.json says which class it is and how that is set (do_lower_case, model_max_length, ...); without
    one it is the class that transformers takes for such a model, so a vocab.txt is enough for ViLT, and vocab.json
    with merges.txt for METER. A byte order mark at the head of a file is no part of it. Raises InputError when there
    is none that works, MissingDependencyError without transformers, or without sentencepiece where it is one of that.
    """
    check_links(folder, (*TOKENIZERS, *_BESIDE))
    files = [name for name in TOKENIZERS if (folder / name).exists()]
    if not files:  # transformers would make up an empty one
        raise InputError(f"{folder}: there is no tokenizer ({', '.join(TOKENIZERS)}); copy its files there.")
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise missing(error) or error from None
    alone = files[0] == "tokenizer.json" and not (folder / "tokenizer_config.json").exists()
    if config is None:
        config = read_object(folder / "config.json") if (folder / "config.json").exists() else {}
    family = config.get("model_type") if family is None else family
    like: str | None = family_of(str(family)).tokenizer_of(config) if str(family) in FAMILIES else None
    try:
        with _without_marks(folder) as place:
            if alone and like != family:
                # Whatever kind it is, the file describes it whole.
                tokenizer: Any = transformers.PreTrainedTokenizerFast(tokenizer_file=str(place / files[0]))  # type: ignore[no-untyped-call]
            else:
                with errors_alone("transformers.configuration_utils"):  # it warns of its own defaults
                    model = {} if like is None else {"config": transformers.AutoConfig.for_model(like)}
                tokenizer = transformers.AutoTokenizer.from_pretrained(place, local_files_only=True, **model)
        # One without a token for what it does not know would fail at a user's first such word.
        if None in tokenizer("\u4e28")["input_ids"]:
            raise ValueError("a token that it puts into every text, or for what it does not know, has no id")
    except BaseException as error:
        # The package tokenizers raises plain Exceptions, and a panic of its Rust, which is none.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise _refusal(folder, files, error) from None
    own = type(tokenizer).vocab_files_names.values()
    if own and not any((folder / name).exists() for name in own):  # transformers has made up an empty one
        raise InputError(
            f"{folder}: its tokenizer is read as a {type(tokenizer).__name__}, of which there is no file "
            f"({', '.join(own)}); take the files of the tokenizer that the model was trained with."
        )
    return tokenizer


def _refusal(folder: Path, files: Sequence[str], error: BaseException) -> PumerError:
    """What to tell of a tokenizer of these files that cannot be loaded."""
    modelled = any(name.endswith(".model") for name in files)
    if not modelled and ("model_file" in str(error) or isinstance(error, ImportError)):
        return InputError(
            f"{folder}: its tokenizer is one of sentencepiece, whose spiece.model is missing; copy it there."
        )
    if modelled and importlib.util.find_spec("sentencepiece") is None:
        how = ways_to("sentencepiece")
        return MissingDependencyError(
            f"{folder}: its tokenizer needs the package sentencepiece, which is not installed: {how}."
        )
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return InputError(f"{folder}: its tokenizer cannot be loaded ({first}).")


def check_tokenizer(tokenizer: Any, folder: Path, vocabulary: int | None, pad_id: int) -> None:
    """Raises InputError for a tokenizer whose ids a model with a table of `vocabulary` ids (None: unknown) cannot mean.

    That is one with more words than the table, one whose every text holds an added token beyond it, and one that
    begins or ends texts with `pad_id`, which fills texts here. Other added tokens may lie beyond the table, as
    transformers allows: the text that has one is refused.
    """
    own = "take the tokenizer that the model was trained with (apply --tokenizer FOLDER)"
    if vocabulary is not None:
        words = _words(tokenizer)
        if words and max(words.values()) >= vocabulary:
            raise InputError(
                f"{folder}: its tokenizer has ids up to {max(words.values())}, but the model has a table of "
                f"{vocabulary}, so it is another model's; {own}."
            )
        always = [*tokenizer("")["input_ids"], pad_id]
        if not 0 <= min(always) <= max(always) < vocabulary:
            wrong = next(i for i in always if not 0 <= i < vocabulary)
            raise InputError(
                f"{folder}: its texts hold the id {wrong}, but the model has a table of {vocabulary}; {own}."
            )
    edges = {name: getattr(tokenizer, f"{name}_token_id", None) for name in ("cls", "sep", "bos", "eos")}
    clash = [name for name, number in edges.items() if number == pad_id != tokenizer.pad_token_id]
    if clash:
        token = getattr(tokenizer, f"{clash[0]}_token")
        raise InputError(
            f"{folder}: its tokenizer has {pad_id} for '{token}', but the model's texts are filled up with {pad_id} "
            f"(pad_token_id), so it is another model's; {own}."
        )


def check_fits(folder: Path, family: str, config: Mapping[str, Any]) -> None:
    """Raises InputError when the tokenizer in a folder cannot be that of a model with this config."""
    if (text := family_of(family).spec(config).text) is not None:
        fitted(text, load_tokenizer(folder, family, config), folder)


def fitted(text: TextInput, tokenizer: Any, folder: Path) -> TextInput:
    """How a model takes the texts of this tokenizer: its padding where the model names none, and its longest text where
    that is shorter. Raises InputError when the tokenizer, from `folder`, cannot be the model's."""
    pad = pad_id_of(tokenizer, text.pad_id)
    check_tokenizer(tokenizer, folder, text.vocabulary, pad)
    if text.end_id is not None and text.end_id not in tokenizer("")["input_ids"]:
        raise InputError(
            f"{folder}: its tokenizer ends no text with the id {text.end_id} (eos_token_id), where the model reads it; "
            "take the tokenizer that the model was trained with (apply --tokenizer FOLDER)."
        )
    longest = longest_of(tokenizer, folder, text.longest)
    if not text.masked and (problem := _of_padding(text, tokenizer, longest)):
        raise InputError(f"{folder}: {problem}")
    return replace(text, pad_id=pad, longest=longest)


def _of_padding(text: TextInput, tokenizer: Any, longest: int | None) -> str:
    """What in a tokenizer contradicts a model that sees padding like any other token, as a sentence; "" if nothing
    does. transformers would answer by the tokenizer, and so otherwise."""
    said = "in tokenizer_config.json"
    if tokenizer.pad_token_id is None:
        return f"its tokenizer has no token for padding, which this model sees; say pad_token {said}."
    if tokenizer.padding_side != text.padding:
        return (
            f"its tokenizer fills texts up on the {tokenizer.padding_side}, and this model, which sees padding, was "
            f"trained with texts filled up on the {text.padding}; say padding_side {said}."
        )
    if MASK in tokenizer.model_input_names:
        return (
            "its tokenizer gives a mask of padding, and this model was trained without one; say "
            f'"model_input_names": ["{IDS}"] {said}.'
        )
    if text.length is not None and longest != text.length:
        return (
            f"its tokenizer fills texts up to {longest} tokens (model_max_length {said}), and this model, which sees "
            f"padding, takes {text.length}."
        )
    return ""


def pad_id_of(tokenizer: Any, told: int | None) -> int:
    """What fills texts: what the config says, else the tokenizer's; 0 when neither has one, for it is masked."""
    return int((tokenizer.pad_token_id if told is None else told) or 0)


def longest_of(tokenizer: Any, folder: Path, most: int | None) -> int | None:
    """The longest text in tokens: `most`, which the model takes, or fewer if the tokenizer's model_max_length says so.
    Raises InputError when that is no number of tokens."""
    limit = getattr(tokenizer, "model_max_length", None)
    if limit is None:
        return most
    if not isinstance(limit, int | float) or isinstance(limit, bool) or not limit >= 2:
        raise InputError(
            f"{folder}: its tokenizer's model_max_length cannot be {limit!r}; a text has 2 tokens or more."
        )
    return int(limit if most is None else min(most, limit))


def _words(tokenizer: Any) -> dict[str, int]:
    """Token -> id without those that were added to the vocabulary, and without placeholders."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    added = set(tokenizer.get_added_vocab()) if backend is None else set()
    words = tokenizer.get_vocab() if backend is None else backend.get_vocab(with_added_tokens=False)
    return {word: i for word, i in words.items() if word not in added and not _PLACEHOLDER.fullmatch(word)}


@contextmanager
def _without_marks(folder: Path) -> Iterator[Path]:
    """The folder, or while inside a copy of its tokenizer's files without the byte order marks that some have."""
    files = [folder / name for name in (*TOKENIZERS, *_BESIDE) if (folder / name).is_file()]
    marked = [file for file in files if file.suffix != ".model" and _begins(file, codecs.BOM_UTF8)]
    if not marked:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="tokenizer-") as made:
        for file in files:
            shutil.copyfile(file, Path(made) / file.name)
        for file in marked:
            (Path(made) / file.name).write_bytes(file.read_bytes().removeprefix(codecs.BOM_UTF8))
        yield Path(made)


def _begins(file: Path, mark: bytes) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(mark)) == mark
