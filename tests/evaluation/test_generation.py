"""Models that write their answers: dense and reduced ones are asked the same questions, as transformers asks them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_clip
import tiny_siglip
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from transformers import AutoProcessor, LlavaForConditionalGeneration
from whole_llava import PAD, TEMPLATE, write

import pumer_convert
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.cli import cli
from pumer_convert.data.formats import read_samples
from pumer_convert.errors import InputError, PumerError
from pumer_convert.evaluation.generate import Generator
from pumer_convert.export.layouts.hf import export_hf

RECIPE = """recipe: 1
model: llava
reduce:
  - {at: vision.0, merge: {image: 0.2, by: pitome}}
  - {at: projector, prune: {image: {keep: 9}, by: divprune}}
"""
QUESTIONS = ("w7 w9", "w3", "w8 w2 w4 w11")


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def data(folder: Path, answers: tuple[str, ...] = ("w1", "w2", "w3")) -> Path:
    """Three questions on pictures of three shapes."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for i, side in enumerate(((48, 48), (60, 90), (80, 50))):
        Image.fromarray(random.integers(0, 256, (*side, 3), np.uint8)).save(folder / f"{i}.png")
    rows = [
        {"image": f"{i}.png", "question": question, "answer": answer}
        for i, (question, answer) in enumerate(zip(QUESTIONS, answers, strict=True))
    ]
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder / "rows.jsonl"


def both(folder: Path, **config: Any) -> tuple[Path, Path]:
    """A dense model and the whole of its reduced one."""
    dense = write(folder / "dense", TEMPLATE, **config)
    (folder / "recipe.yaml").write_text(RECIPE)
    pumer_convert.apply(dense, folder / "recipe.yaml", folder / "part")
    export_hf(folder / "part", folder / "whole")
    return dense, folder / "whole"


def told(folder: Path, file: Path, instruction: str = "") -> list[str]:
    """What transformers' own class writes, each question alone."""
    model, processor = (
        LlavaForConditionalGeneration.from_pretrained(folder).eval(),
        AutoProcessor.from_pretrained(folder),
    )
    found = []
    for sample in read_samples(file, "vqa").samples:
        text = f"w5 <image> {sample.text}{instruction} w6"
        inputs = processor(images=sample.pictures[0].open(), text=text, return_tensors="pt")
        tokens = model.generate(**inputs, max_new_tokens=20, do_sample=False, pad_token_id=PAD)
        start = inputs["input_ids"].shape[1]
        found.append(processor.decode(tokens[0, start:], skip_special_tokens=True).strip())
    return found


def test_what_generation_config_says_is_done(tmp_path: Path) -> None:
    dense = write(tmp_path / "dense", TEMPLATE)
    said = {"do_sample": True, "temperature": 0.3, "repetition_penalty": 1.4, "eos_token_id": 20, "max_length": 4096}
    (dense / "generation_config.json").write_text(json.dumps({**said, "bos_token_id": 1, "pad_token_id": PAD}))
    file = data(tmp_path / "data")
    own = Generator.open(open_checkpoint(dense), torch.device("cpu"), "", 20)
    expected = told(dense, file)
    assert own.answer(read_samples(file, "vqa").samples) == expected
    (dense / "generation_config.json").write_text(json.dumps({"pad_token_id": PAD}))
    assert told(dense, file) != expected


@pytest.mark.parametrize("template", [TEMPLATE, "<s> " + TEMPLATE])
def test_the_first_token_stands_once(template: str, tmp_path: Path) -> None:
    dense = write(tmp_path / "dense", template)
    processor = AutoProcessor.from_pretrained(dense)
    processor.tokenizer.add_special_tokens({"bos_token": "<s>"})
    start = processor.tokenizer.bos_token_id
    rust = processor.tokenizer.backend_tokenizer
    rust.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", start)])
    processor.save_pretrained(dense)
    generator = Generator.open(open_checkpoint(dense), torch.device("cpu"), "", 1)
    seen = []
    generator.processor.tokenizer.padding_side = "left"
    generator._generate = lambda inputs: seen.append(inputs["input_ids"]) or [""]  # type: ignore[method-assign]
    samples = read_samples(data(tmp_path / "data"), "vqa").samples
    for sample in samples:
        generator.answer([sample])
        content = [{"type": "image", "image": sample.pictures[0].open()}, {"type": "text", "text": sample.text}]
        turns = [[{"role": "user", "content": content}]]
        whole = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
        expected = processor.apply_chat_template(turns, **whole)["input_ids"]
        assert torch.equal(seen[-1], expected)
        assert int((seen[-1] == start).sum()) == 1


def test_a_question_with_a_pictures_token_is_refused(tmp_path: Path) -> None:
    dense = write(tmp_path / "dense", TEMPLATE)
    file = data(tmp_path / "data")
    file.write_text(file.read_text().replace("w7 w9", "w7 <image> w9"))
    assert "rows.jsonl:1: '<image>' in a question" in refused("evaluate", dense, "--data", file)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_dense_model_answers_as_in_transformers(batch: int, tmp_path: Path) -> None:
    dense = write(tmp_path / "dense", TEMPLATE)
    file = data(tmp_path / "data")
    expected = told(dense, file, instruction="\nAnswer the question using a single word or phrase.")
    assert len(set(expected)) == 3
    file = data(tmp_path / "data", tuple(expected))
    found = pumer_convert.evaluate(dense, file, batch_size=batch)
    assert (found.task, found.metric, found.score.value) == ("vqa", "vqa_accuracy", 1.0)
    assert found.comparison is None
    bare = pumer_convert.evaluate(dense, file, batch_size=batch, instruction="")
    right = [a == b for a, b in zip(told(dense, file), expected, strict=True)]
    assert bare.score.value == pytest.approx(sum(right) / 3)
    assert sum(right) < 3


def test_reduced_beside_dense(tmp_path: Path) -> None:
    dense, whole = both(tmp_path)
    file = data(tmp_path / "data")
    names = {"dense": dense, "reduced": whole}
    samples = read_samples(file, "vqa").samples
    generators = {k: Generator.open(open_checkpoint(v), torch.device("cpu"), "", 20) for k, v in names.items()}
    answers = {name: one.answer(samples) for name, one in generators.items()}
    assert answers["dense"] == told(dense, file)
    assert answers["reduced"] != answers["dense"]
    file = data(tmp_path / "data", tuple(answers["reduced"]))
    words = ["evaluate", str(whole), "--data", str(file), "--instruction", "", "--flips", str(tmp_path / "flips.jsonl")]
    result = CliRunner().invoke(cli, [*words, "--json"], catch_exceptions=False)
    report = json.loads(result.stdout)
    assert report["against"] == str(dense)
    assert report["score"]["value"] == 1
    parts = report["score"]["parts"]
    assert list(parts) == ["vision", "prefill", "decode"]
    assert min(parts.values()) > 0
    rate = report["score"]["examples_per_second"]
    assert sum(parts.values()) == pytest.approx(1 / rate)
    flips = [json.loads(line) for line in (tmp_path / "flips.jsonl").read_text().splitlines()]
    expected = [pair for pair in zip(answers["dense"], answers["reduced"], strict=True) if pair[0] != pair[1]]
    assert [(flip["dense"], flip["reduced"]) for flip in flips] == expected
    shown = CliRunner().invoke(cli, [*words, "--overwrite"], catch_exceptions=False).stdout
    assert "vision" in shown
    assert "ms an example" in shown


def test_fewer_new_tokens(tmp_path: Path) -> None:
    dense = write(tmp_path / "dense", TEMPLATE)
    file = data(tmp_path / "data", ("w1", "w2", "w3"))
    short = Generator.open(open_checkpoint(dense), torch.device("cpu"), "", 2)
    long = Generator.open(open_checkpoint(dense), torch.device("cpu"), "", 5)
    samples = read_samples(file, "vqa").samples
    for few, many in zip(short.answer(samples), long.answer(samples), strict=True):
        assert many.split()[: len(few.split())] == few.split()
        assert len(few.split()) <= 2 < len(many.split())


def refused(*words: object) -> str:
    """The sentence with which a command is refused."""
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert isinstance(result.exception, PumerError)
    assert result.exception.exit_code == 2
    return str(result.exception)


def test_what_writes_nothing_is_refused(tmp_path: Path) -> None:
    both(tmp_path)
    file = data(tmp_path / "data")
    assert "the vision part alone, which answers nothing" in refused("evaluate", tmp_path / "part", "--data", file)
    for writer in (tiny_clip.write, tiny_siglip.write):
        other = writer(tmp_path / writer.__module__)
        assert "writes nothing" in refused("evaluate", other, "--data", file, "--instruction", "Shortly.")
        assert "writes nothing" in refused("evaluate", other, "--data", file, "--max-new-tokens", 3)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    dense = write(tmp_path / "dense", TEMPLATE)
    file = data(tmp_path / "data")
    said = refused("evaluate", dense, "--data", file, "--task", "zero_shot")
    assert "not measured by 'zero_shot', but by vqa, pope" in said
    assert "a file of classes is for" in refused("evaluate", dense, "--data", file, "--classes", file)
    assert "has none" in refused("evaluate", dense, "--data", file, "--workers", 1)
    (dense / "chat_template.jinja").unlink()
    assert "there is no chat_template.jinja" in refused("evaluate", dense, "--data", file)


def test_a_language_model_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    dense = write(tmp_path / "dense", TEMPLATE)
    weights = load_file(dense / "model.safetensors")
    name = next(name for name in weights if name.endswith("layers.1.mlp.up_proj.weight"))
    file = data(tmp_path / "data")
    weights[name] = weights[name][:10].clone()
    save_file(weights, dense / "model.safetensors", {"format": "pt"})
    said = refused("evaluate", dense, "--data", file)
    assert "layers.1.mlp.up_proj.weight' is [10, 48], but config.json asks for [96, 48]" in said
    del weights[name]
    save_file(weights, dense / "model.safetensors", {"format": "pt"})
    assert "without which nothing can be generated" in refused("evaluate", dense, "--data", file)


def test_processors_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    dense = write(tmp_path / "dense", TEMPLATE)
    file = data(tmp_path / "data")
    values = json.loads((dense / "processor_config.json").read_text())
    (dense / "processor_config.json").write_text(json.dumps({**values, "patch_size": None}))
    assert "its processor says no patch_size" in refused("evaluate", dense, "--data", file)
    (dense / "processor_config.json").write_text(json.dumps(values))
    (dense / "tokenizer.json").unlink()
    assert "there is no tokenizer" in refused("evaluate", dense, "--data", file)


def test_a_processor_that_counts_otherwise_is_refused(tmp_path: Path) -> None:
    _, whole = both(tmp_path)
    values = json.loads((whole / "processor_config.json").read_text())
    values["num_additional_image_tokens"] += 1
    (whole / "processor_config.json").write_text(json.dumps(values))
    with pytest.raises(
        InputError, match=r"keeps 10 places for the tokens of 1 picture\(s\), and its vision part gives"
    ):
        pumer_convert.evaluate(whole, data(tmp_path / "data"), batch_size=1)
