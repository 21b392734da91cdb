"""PaliGemma and Gemma 3 are asked as transformers asks them, whose masks depend on the types of tokens."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from registered import DENSE
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor
from whole_gemmas import TEMPLATE, whole

import pumer_convert
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.cli import cli
from pumer_convert.data.formats import read_samples
from pumer_convert.errors import InputError
from pumer_convert.evaluation.generate import Generator
from pumer_convert.export.layouts.hf import export_hf

QUESTIONS = ("w7 w9", "w13", "w8 w12 w4 w11")
SAID = {"paligemma": "answer en", "gemma3": "Answer the question using a single word or phrase."}
PRUNED = "{at: projector, prune: {image: {keep: 5}, by: divprune}}"
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # of PaliGemma's processor


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def dense_of(folder: Path, model: str) -> Path:
    """A whole model whose words weigh so little that it does not repeat the last one for ever."""
    found = whole(folder / "dense", model, template=TEMPLATE if model == "gemma3" else "")
    weights = load_file(found / "model.safetensors")
    weights[next(name for name in weights if name.endswith("embed_tokens.weight"))] *= 0.03
    save_file(weights, found / "model.safetensors", {"format": "pt"})
    return found


def data(folder: Path, answers: tuple[str, ...] = ("w1", "w2", "w3")) -> Path:
    random = np.random.default_rng(0)
    rows = []
    for i, side in enumerate(((48, 48), (60, 90), (80, 50))):
        Image.fromarray(random.integers(0, 256, (*side, 3), np.uint8)).save(folder / f"{i}.png")
        rows.append({"image": f"{i}.png", "question": QUESTIONS[i], "answer": answers[i]})
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder / "rows.jsonl"


def told(folder: Path, model: str, file: Path, instruction: str = "", types: bool = True) -> list[str]:
    """What transformers' own class writes, each question alone; without its `types` of tokens something else."""
    network, processor = DENSE[model].from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    found = []
    for sample in read_samples(file, "vqa").samples:
        picture, text = sample.pictures[0].open(), sample.text
        if model == "paligemma":
            text = f"<image>{instruction} {text}" if instruction else f"<image>{text}"
            given = processor(images=picture, text=text, return_tensors="pt")
        else:
            text = f"{text}\n{instruction}" if instruction else text
            content = [{"type": "image", "image": picture}, {"type": "text", "text": text}]
            whole = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
            given = processor.apply_chat_template([[{"role": "user", "content": content}]], **whole)
        kept = {name: value for name, value in given.items() if types or name != "token_type_ids"}
        tokens = network.generate(**kept, max_new_tokens=20, do_sample=False)
        found.append(processor.decode(tokens[0, given["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    return found


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("model", SAID)
def test_a_dense_model_answers_as_in_transformers(model: str, batch: int, tmp_path: Path) -> None:
    dense, file = dense_of(tmp_path, model), data(tmp_path)
    expected = told(dense, model, file, SAID[model])
    assert len(set(expected)) == 3
    # PaliGemma's language model looks both ways as a whole; that of Gemma 3 by the types of tokens.
    assert (told(dense, model, file, SAID[model], types=False) != expected) == (model == "gemma3")
    file = data(tmp_path, tuple(expected))
    assert pumer_convert.evaluate(dense, file, batch_size=batch).score.value == 1.0
    own = Generator.open(open_checkpoint(dense), torch.device("cpu"), "", 20)
    assert own.answer(read_samples(file, "vqa").samples) == told(dense, model, file)


@pytest.mark.parametrize("model", SAID)
def test_reduced_beside_dense(model: str, tmp_path: Path) -> None:
    dense, file = dense_of(tmp_path, model), data(tmp_path)
    (tmp_path / "r.yaml").write_text(f"recipe: 1\nmodel: {model}\nreduce: [{PRUNED}]\n")
    pumer_convert.apply(dense, tmp_path / "r.yaml", tmp_path / "part")
    export_hf(tmp_path / "part", tmp_path / "whole")
    own = Generator.open(open_checkpoint(tmp_path / "whole"), torch.device("cpu"), None, 20)
    answers = own.answer(read_samples(file, "vqa").samples)
    assert answers != told(dense, model, file, SAID[model])
    file = data(tmp_path, tuple(answers))
    result = CliRunner().invoke(cli, ["evaluate", str(tmp_path / "whole"), "--data", str(file), "--json"])
    report = json.loads(result.stdout)
    assert (report["score"]["value"], report["against"]) == (1.0, str(dense))


@pytest.mark.parametrize(
    ("model", "token"), [("paligemma", "<image>"), ("gemma3", "<start_of_image>"), ("gemma3", "<image>")]
)
def test_a_question_with_a_pictures_token_is_refused(model: str, token: str, tmp_path: Path) -> None:
    dense, file = dense_of(tmp_path, model), data(tmp_path)
    file.write_text(file.read_text().replace("w7 w9", f"w7 {token} w9"))
    with pytest.raises(InputError, match=f"rows.jsonl:1: '{token}' in a question would stand for a picture"):
        pumer_convert.evaluate(dense, file)


def test_a_gemma_3_without_a_template_is_refused(tmp_path: Path) -> None:
    dense, file = whole(tmp_path / "dense", "gemma3"), data(tmp_path)
    with pytest.raises(InputError, match=r"there is no chat_template\.jinja"):
        pumer_convert.evaluate(dense, file)
