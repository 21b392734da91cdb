"""Texts as people have them, and tokenizers as their files say: ids are those of transformers, or it is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import PUMER, recipe

from pumer_convert.cli import cli
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.data.tokenizer import check_tokenizer, load_tokenizer, longest_of
from pumer_convert.demo import CHECKPOINT
from pumer_convert.errors import InputError, VerificationError
from pumer_convert.runtime import Pipeline

TEXTS = (
    "what color is the circle ?",
    "Is THE Café open?",
    "",
    "   ",
    "\0",
    "漢字 かな 🙂",
    "\u0430 \u0431 \u0432",
    "x" * 5000,
    "a\u0301",
)


def words() -> list[str]:
    """The demo's vocabulary, in the order of its ids."""
    found = transformers.PreTrainedTokenizerFast(tokenizer_file=str(CHECKPOINT / "tokenizer.json")).get_vocab()
    return sorted(found, key=found.__getitem__)


def checkpoint(folder: Path, vocab: bytes | None = None, **config: Any) -> Path:
    """The demo's checkpoint with a slow tokenizer's vocab.txt alone, and a tokenizer_config.json of `config`."""
    shutil.copytree(CHECKPOINT, folder)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    (folder / "vocab.txt").write_bytes(vocab if vocab is not None else "\n".join(words()).encode() + b"\n")
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def call(*args: Any) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args])


def refusal(result: Result) -> str:
    assert isinstance(result.exception, InputError), (result.exception, result.output)
    return str(result.exception)


@pytest.fixture(scope="module")
def preprocessor() -> Preprocessor:
    return Preprocessor.of(CHECKPOINT)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"do_lower_case": False},
        {"strip_accents": False},
        {"model_max_length": 9, "truncation_side": "left"},
        {"padding_side": "left", "tokenizer_class": "BertTokenizer"},
        {"tokenize_chinese_chars": False, "tokenizer_class": "BertTokenizerFast"},
    ],
)
def test_ids_are_those_of_transformers(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = checkpoint(tmp_path / "ckpt", **config)
    own, theirs = Preprocessor.of(folder), transformers.AutoTokenizer.from_pretrained(folder)
    longest = min(40, config.get("model_max_length", 40))
    for text in TEXTS:
        ids, mask = own.text([text])
        expected = theirs(text, truncation=True, max_length=longest)
        assert ids[0].tolist() == expected["input_ids"], text
        assert mask.all()
    ids, mask = own.text(["circle", "what color is the circle ?"])
    assert mask[0].tolist() == sorted(mask[0], reverse=True), "padded on the right, whatever padding_side says"
    assert ids[0, mask[0] == 1].tolist() == theirs("circle")["input_ids"]


@pytest.mark.parametrize("how", ["mark", "lines", "mark and lines"])
def test_a_vocabulary_that_windows_saved(tmp_path: Path, how: str) -> None:
    text = ("\ufeff" if "mark" in how else "") + "".join(f"{w}\n" for w in words())
    text = text.replace("\n", "\r\n") if "lines" in how else text
    folder = checkpoint(tmp_path / "ckpt", text.encode())
    plain = checkpoint(tmp_path / "plain")
    asked = [text for text in TEXTS if "\0" not in text]
    np.testing.assert_array_equal(Preprocessor.of(folder).text(asked)[0], Preprocessor.of(plain).text(asked)[0])
    assert Preprocessor.of(folder).tokenizer.pad_token_id == 0
    (folder / "tokenizer_config.json").write_bytes(b"\xef\xbb\xbf" + b'{"do_lower_case": true}')
    assert Preprocessor.of(folder).text(["CIRCLE"])[0].tolist() == Preprocessor.of(plain).text(["circle"])[0].tolist()


def test_what_is_no_text_is_refused(preprocessor: Preprocessor) -> None:
    for text, says in ((None, "not NoneType"), (7, "not int"), (b"a", "not bytes"), ("a\ud800", "surrogate")):
        with pytest.raises(InputError, match=says):
            preprocessor.text([text])  # type: ignore[list-item]


def test_a_row_that_is_no_unicode_is_named(tmp_path: Path) -> None:
    from pumer_convert.data.formats import read_samples

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    rows = [
        f'{{"image": "a.png", "text": "{text}", "answer": "red"}}\n' for text in ("what", "\\ud83d", "\\ud83d\\ude42")
    ]
    (tmp_path / "d.jsonl").write_text("".join(rows))
    with pytest.raises(InputError, match=r"d\.jsonl:2: the text '\\ud83d' is no valid Unicode"):
        read_samples(tmp_path / "d.jsonl", "vqa")
    assert [s.text for s in read_samples(tmp_path / "d.jsonl", "vqa", on_error="skip").samples] == ["what", "🙂"]


def test_texts_that_are_cut_are_counted(preprocessor: Preprocessor) -> None:
    assert preprocessor.cut(["what", "what " * 38]) == ""
    assert preprocessor.cut(["what", "what " * 39, "x " * 900]) == "2 of 3 texts were longer than 40 tokens and cut."
    assert preprocessor.cut(["what " * 39]) == "1 of 1 text was longer than 40 tokens and cut."


def test_a_command_says_once_what_was_cut(tmp_path: Path) -> None:
    Image.new("RGB", (96, 96), "red").save(tmp_path / "a.png")
    rows = [{"image": "a.png", "text": text, "answer": "red"} for text in ("what", "what " * 60, "color " * 60)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = call("evaluate", CHECKPOINT, "--data", tmp_path / "d.jsonl", "--device", "cpu")
    assert result.output.count("2 of 3 texts were longer than 40 tokens and cut") == 1, result.output
    result = call("run", CHECKPOINT, "--image", tmp_path / "a.png", "--text", "what " * 60, "--device", "cpu")
    assert result.exit_code == 0
    assert result.stderr.count("longer than 40 tokens") == 1
    assert "longer" not in call("run", CHECKPOINT, "--image", tmp_path / "a.png", "--text", "what").output


def bigger(folder: Path) -> Path:
    return checkpoint(folder, "\n".join([*words(), "zebra"]).encode())


def roberta(folder: Path) -> Path:
    """A tokenizer of RoBERTa's kind with few words: its <s> has the id that fills a BERT's texts."""
    folder.mkdir()
    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4, "h": 5, "i": 6, "hi": 7}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\nh i\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RobertaTokenizer"}))
    return folder


def test_the_tokenizer_of_another_model_is_refused_by_every_verb(tmp_path: Path) -> None:
    folder = bigger(tmp_path / "other")
    Image.new("RGB", (96, 96)).save(tmp_path / "a.png")
    (tmp_path / "d.jsonl").write_text('{"image": "a.png", "text": "what", "answer": "red"}\n')
    (tmp_path / "served").mkdir()
    plan = recipe(tmp_path / "r.yaml", PUMER)
    reduced = tmp_path / "small"
    assert call("apply", "--recipe", plan, CHECKPOINT, "-o", reduced).exit_code == 0
    for file in (*reduced.glob("tokenizer*"), reduced / "vocab.txt"):
        file.unlink(missing_ok=True)
    shutil.copy(folder / "vocab.txt", reduced)
    says = "ids up to 77, but the model has a table of 77, so it is another model's"
    before = sorted(tmp_path.rglob("*"))
    assert says in refusal(call("run", folder, "--image", tmp_path / "a.png", "--text", "what"))
    assert says in refusal(call("evaluate", folder, "--data", tmp_path / "d.jsonl", "--device", "cpu"))
    assert says in refusal(call("apply", "--recipe", plan, CHECKPOINT, "--tokenizer", folder))
    assert says in refusal(call("export", folder, "-o", tmp_path / "served"))
    assert says in refusal(call("distill", reduced, "--data", tmp_path / "d.jsonl", "--batch-size", "1", "--kd", "0"))
    assert sorted(tmp_path.rglob("*")) == before


def test_another_kind_of_tokenizer_is_known_by_its_special_tokens(tmp_path: Path) -> None:
    folder = roberta(tmp_path / "roberta")
    plan = recipe(tmp_path / "r.yaml", PUMER)
    says = refusal(call("apply", "--dry-run", "--recipe", plan, CHECKPOINT, "--tokenizer", folder))
    assert "has 0 for '<s>'" in says
    assert "filled up with 0" in says


def test_added_tokens_beyond_the_table(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "ckpt")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<image>"])
    tokenizer.save_pretrained(folder)
    own = Preprocessor.of(folder)
    assert own.text(["what"])[0].max() < 77
    with pytest.raises(InputError, match="holds the token '<image>' with the id 77"):
        own.text(["what <image>"])
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "cls_token": "<start>"}))
    with pytest.raises(InputError, match=r"texts hold the id 7\d, but the model has a table of 77"):
        Preprocessor.of(folder)


@pytest.mark.parametrize("limit", [0, 1, -1, "long"])
def test_a_longest_text_that_cannot_be(tmp_path: Path, limit: Any) -> None:
    with pytest.raises(InputError, match=r"model_max_length|cannot be loaded"):
        Preprocessor.of(checkpoint(tmp_path / "ckpt", model_max_length=limit))


def test_a_tokenizer_without_a_token_for_padding(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "ckpt")
    tokenizer = load_tokenizer(folder, "vilt")
    (folder / "vocab.txt").unlink()
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 1e30}'
    )
    own = Preprocessor.of(folder)
    assert own.tokenizer.pad_token_id is None
    assert own.text(["", "what color"])[0].tolist()[0][2:] == [0, 0]
    check_tokenizer(own.tokenizer, folder, None, 0)
    assert longest_of(own.tokenizer, folder, 40) == 40


@pytest.mark.parametrize("broken", [b"", b"\n", b"\xff\xfe[\x00P\x00", b"one\ntwo\n"])
def test_a_vocabulary_that_is_none(tmp_path: Path, broken: bytes) -> None:
    with pytest.raises(InputError, match="its tokenizer cannot be loaded"):
        Preprocessor.of(checkpoint(tmp_path / "ckpt", broken))


def test_half_a_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = roberta(tmp_path / "roberta")
    assert load_tokenizer(folder, "meter")("hi")["input_ids"] == [0, 7, 2]
    (folder / "merges.txt").unlink()
    with pytest.raises(InputError, match="its tokenizer cannot be loaded"):
        load_tokenizer(folder, "meter")


def test_meters_tokenizer_obeys_its_settings(tmp_path: Path) -> None:
    vocabulary = {
        "<s>": 0,
        "<pad>": 1,
        "</s>": 2,
        "<unk>": 3,
        "<mask>": 4,
        "h": 5,
        "i": 6,
        "hi": 7,
        "Ġ": 8,
        "Ġh": 9,
        "Ġhi": 10,
    }
    for prefix, ids in ((False, [0, 7, 10, 2]), (True, [0, 10, 10, 2])):
        folder = tmp_path / str(prefix)
        folder.mkdir()
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        (folder / "merges.txt").write_text("#version: 0.2\nh i\nĠ h\nĠh i\nĠ hi\n")
        settings = {"add_prefix_space": prefix, "model_max_length": 12, "truncation_side": "left"}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        slow = load_tokenizer(folder, "meter")
        slow.save_pretrained(folder / "fast")
        for tokenizer in (slow, load_tokenizer(folder / "fast", "meter")):
            assert tokenizer("hi hi")["input_ids"] == ids
            assert (tokenizer.model_max_length, tokenizer.truncation_side) == (12, "left")


def test_a_served_folder_answers_with_vocab_txt_alone(tmp_path: Path) -> None:
    folder, served = checkpoint(tmp_path / "ckpt"), tmp_path / "served"
    served.mkdir()
    result = call("export", folder, "-o", served, "--triton")
    assert result.exit_code == 0, result.output
    assert not (served / "tokenizer.json").exists()
    image = Image.new("RGB", (96, 96), "blue")
    there, here = Pipeline(served / "model.onnx", device="cpu"), Pipeline(folder, device="cpu")
    assert there.preprocessor.vocabulary == 77
    for text in ("What COLOR is the circle ?", ""):
        one, other = there(image, text), here(image, text)
        assert one.text == other.text
        assert one.score == pytest.approx(other.score, abs=1e-4)
    front = served / "triton" / "pumer" / "1"
    assert json.loads((front / "front.json").read_text())["text"]["vocab_size"] == 77
    import tokenizers

    fast = tokenizers.Tokenizer.from_file(str(front / "tokenizer.json"))
    assert fast.encode("What COLOR").ids == here.preprocessor.text(["What COLOR"])[0][0].tolist()


def test_logits_that_are_no_numbers_are_no_answer(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(CHECKPOINT, tmp_path / "ckpt"))
    weights = load_file(folder / "model.safetensors")
    weights["classifier.3.weight"] *= 1e38  # finite themselves
    save_file(weights, folder / "model.safetensors")
    Image.new("RGB", (96, 96)).save(tmp_path / "a.png")
    (tmp_path / "d.jsonl").write_text('{"image": "a.png", "text": "what", "answer": "red"}\n')
    for words in (
        ["run", "--image", tmp_path / "a.png", "--text", "what"],
        ["evaluate", "--data", tmp_path / "d.jsonl"],
    ):
        result = call(words[0], folder, *words[1:], "--device", "cpu")
        assert isinstance(result.exception, VerificationError), result.output
        assert "not finite" in str(result.exception)
