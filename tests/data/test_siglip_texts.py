"""Texts of a SigLIP: from the text to its embedding as by transformers' processor and model, or refused."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_siglip
import torch
import transformers

from pumer_convert.artifact.sidecar import read_sidecar
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.load import load
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.data.served_tokenizer import served_form
from pumer_convert.errors import InputError
from pumer_convert.export.folder import export_folder
from pumer_convert.runtime import open_runtime

LENGTH = tiny_siglip.TEXT["max_position_embeddings"]
TEXTS = (
    "a cat",
    "A Cat, don't you see?",
    "",
    "... (a)  red\tcat!",
    "\u039f\u0394\u039f\u03a3 \u4e28 \u00e9",
    " a\x1cb\x85c ",
    "a red cat is red " * 9,
    "\u2581a \u2581",
)


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def dense(folder: Path, kind: Callable[..., Path], **config: Any) -> Path:
    if kind is tiny_siglip.write_sentencepiece:
        pytest.importorskip("sentencepiece", reason="transformers' SiglipTokenizer needs sentencepiece")
    return kind(tiny_siglip.write(folder), **config)


@pytest.mark.parametrize("kind", [tiny_siglip.write_gemma, tiny_siglip.write_sentencepiece])
def test_texts_are_embedded_as_by_transformers(tmp_path: Path, kind: Callable[..., Path]) -> None:
    folder = dense(tmp_path / "dense", kind)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    how = {"padding": "max_length", "truncation": True, "max_length": LENGTH, "return_tensors": "pt"}
    given = processor(text=list(TEXTS), **how)
    assert set(given) == {"input_ids"}
    own = Preprocessor.of(folder).words(TEXTS)
    assert set(own) == {"input_ids"}
    np.testing.assert_array_equal(own["input_ids"], given["input_ids"].numpy())
    theirs = transformers.SiglipModel.from_pretrained(folder).eval().get_text_features(**given).pooler_output
    expected = torch.nn.functional.normalize(theirs, dim=-1)
    found = load(folder).run("text", {"input_ids": torch.from_numpy(own["input_ids"])}).outputs["text_embeds"]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    export_folder(folder)
    served = Preprocessor.of_sidecar(read_sidecar(folder / "text.onnx"), folder)
    ids = served.words(TEXTS)["input_ids"]
    assert not hasattr(served.tokenizer, "model_input_names"), "transformers is not needed"
    np.testing.assert_allclose(open_runtime(folder / "text.onnx", device="cpu")(ids), expected, atol=1e-5)


@pytest.mark.parametrize("lower", [True, False])
def test_what_only_transformers_knows_is_refused_when_served(tmp_path: Path, lower: bool) -> None:
    folder = dense(tmp_path / "dense", tiny_siglip.write_sentencepiece, do_lower_case=lower)
    checkpoint, own = open_checkpoint(folder), Preprocessor.of(folder)
    form = served_form(checkpoint, "text.onnx")
    assert form is not None
    (tmp_path / form.entry["file"]).write_text(form.text)
    told = {"model": "siglip", "text": {**own.texts.to_sidecar(), "tokenizer": form.entry}, "pictures": None}
    served = Preprocessor.of_sidecar(told, tmp_path)
    np.testing.assert_array_equal(served.text(TEXTS)[0], own.text(TEXTS)[0])
    assert own.text(["a </s> b"])[0].shape == (1, LENGTH)
    with pytest.raises(InputError, match=r"holds the token '</s>' with the id \d+, but the model has a table of 99"):
        served.text(["a </s> b"])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"pad_token": None}, "its tokenizer has no token for padding, which this model sees; say pad_token in"),
        ({"padding_side": "left"}, "fills texts up on the left, and this model, which sees padding, was trained with"),
        ({"model_input_names": ["input_ids", "attention_mask"]}, 'say "model_input_names": ["input_ids"] in'),
        ({"model_max_length": 12}, "fills texts up to 12 tokens (model_max_length in tokenizer_config.json)"),
        ({"tokenizer_class": "SiglipTokenizer"}, "one of sentencepiece, whose spiece.model is missing; copy it there."),
    ],
)
def test_what_transformers_would_answer_otherwise_is_refused(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    folder = tiny_siglip.write_gemma(tiny_siglip.write(tmp_path / "dense"), **config)
    with pytest.raises(InputError) as refused:
        Preprocessor.of(folder)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_class_default_counts_as_said(tmp_path: Path) -> None:
    """transformers' tokenizers give a mask unless their file says otherwise, and Gemma's fill texts up on the left."""
    for key, message in (("model_input_names", "a mask of padding"), ("padding_side", "on the left")):
        folder = tiny_siglip.write(tmp_path / key)
        said = {name: value for name, value in tiny_siglip.GEMMA.items() if name != key}
        (folder / "tokenizer_config.json").write_text(tiny_siglip.json.dumps(said))
        with pytest.raises(InputError, match=message):
            Preprocessor.of(folder)


def test_a_text_of_another_length_is_refused(tmp_path: Path) -> None:
    folder = tiny_siglip.write(tmp_path / "dense")
    assert Preprocessor.of(folder, pad_to=LENGTH).text(["a"])[0].shape == (1, LENGTH)
    with pytest.raises(InputError, match=f"a text of 9 tokens does not fit; this model takes {LENGTH}"):
        Preprocessor.of(folder, pad_to=9)


@pytest.mark.parametrize("config", [{}, {"tokenizer_class": None}])
def test_a_package_that_is_missing_is_named(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = tiny_siglip.write_sentencepiece(tiny_siglip.write(tmp_path / "dense"), **config)
    script = (
        "import sys; sys.modules['sentencepiece'] = None\n"
        "from pathlib import Path; from pumer_convert.data.tokenizer import load_tokenizer\n"
        "from pumer_convert.errors import PumerError\n"
        "try: load_tokenizer(Path(sys.argv[1]))\n"
        "except PumerError as error: print(error.exit_code, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, check=True)
    says = (
        "its tokenizer needs the package sentencepiece, which is not installed: pip install 'pumer-convert[convert]'."
    )
    assert done.stdout == f"4 {folder}: {says}\n"


def test_words_that_no_text_has_may_lie_beyond_the_table(tmp_path: Path) -> None:
    """The tokenizer of the multilingual SigLIP has T5's hundred spare words behind those of the model."""
    folder = tiny_siglip.write(tmp_path / "dense", text={"vocab_size": 56})
    file = folder / "tokenizer.json"
    values = tiny_siglip.json.loads(file.read_text())
    size = max(values["model"]["vocab"].values()) + 1
    values["model"]["vocab"] |= {f"\u2581<extra_id_{i}>": size + i for i in range(100 - size)}
    file.write_text(tiny_siglip.json.dumps(values))
    assert Preprocessor.of(folder).text(["a cat"])[0].max() < 56
