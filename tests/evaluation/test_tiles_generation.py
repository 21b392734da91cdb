"""An Idefics3 is asked questions on pictures that its processor cuts into tiles."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import whole_tiles
from PIL import Image
from registered import DENSE, restore
from transformers import AutoProcessor

import pumer_convert
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.data.formats import read_samples
from pumer_convert.evaluation.generate import Generator
from pumer_convert.export.layouts.hf import export_hf

SAID = "\nAnswer the question using a single word or phrase."


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield
    restore()


def data(folder: Path, answers: tuple[str, ...] = ("w1", "w2", "w3")) -> Path:
    """Three questions on pictures of three shapes, of which two are cut into other numbers of tiles."""
    random, rows = np.random.default_rng(0), []
    for i, (side, question) in enumerate(zip(((48, 48), (60, 90), (80, 50)), ("w7 w9", "w5", "w8 w4"), strict=True)):
        Image.fromarray(random.integers(0, 256, (*side, 3), np.uint8)).save(folder / f"{i}.png")
        rows.append({"image": f"{i}.png", "question": question, "answer": answers[i]})
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder / "rows.jsonl"


def told(folder: Path, file: Path) -> list[str]:
    """What transformers' own class writes, each question alone."""
    model, processor = DENSE["idefics3"].from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    found = []
    for sample in read_samples(file, "vqa").samples:
        given = processor(
            images=[sample.pictures[0].open()], text=f"<bos> <image> {sample.text}{SAID} w6", return_tensors="pt"
        )
        tokens = model.generate(**given, max_new_tokens=20, do_sample=False)
        found.append(processor.decode(tokens[0, given["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    return found


@pytest.mark.parametrize("batch", [1, 3])
def test_a_dense_model_answers_as_in_transformers(batch: int, tmp_path: Path) -> None:
    dense = whole_tiles.write(tmp_path / "dense", whole_tiles.TEMPLATE)
    expected = told(dense, data(tmp_path))
    assert len(set(expected)) == 3
    file = data(tmp_path, tuple(expected))
    assert pumer_convert.evaluate(dense, file, batch_size=batch).score.value == 1.0


def test_reduced_beside_dense(tmp_path: Path) -> None:
    dense, file = whole_tiles.write(tmp_path / "dense", whole_tiles.TEMPLATE), data(tmp_path)
    (tmp_path / "r.yaml").write_text(
        "recipe: 1\nmodel: idefics3\nreduce:\n  - {at: projector, prune: {image: {keep: 3}, by: divprune}}\n"
    )
    pumer_convert.apply(dense, tmp_path / "r.yaml", tmp_path / "part")
    export_hf(tmp_path / "part", tmp_path / "whole")
    samples = read_samples(file, "vqa").samples
    own = Generator.open(open_checkpoint(tmp_path / "whole"), torch.device("cpu"), None, 20)
    together, alone = own.answer(samples), [own.answer([sample])[0] for sample in samples]
    assert together == alone != told(dense, file)
