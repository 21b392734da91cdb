"""A recipe and a checkpoint are opened once for a stage, and read only while they are what was opened."""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import lessons
import pytest
import tiny
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file

import pumer_convert
from pumer_convert import InputError, Pipeline
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.checkpoint.sources import SafetensorsSource
from pumer_convert.cli import cli
from pumer_convert.convert.build import build
from pumer_convert.demo import CHECKPOINT
from pumer_convert.recipe import schema


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts, by its name, each folder whose weights' header is read and each recipe that is parsed."""
    found: Counter[str] = Counter()
    read_header, parse = SafetensorsSource.__init__, schema.parse_recipe

    def count_header(source: SafetensorsSource, files: Sequence[Path]) -> None:
        found[files[0].parent.name] += 1
        read_header(source, files)

    def count_recipe(text: str, path: str) -> schema.Recipe:
        found[Path(path).name] += 1
        return parse(text, path)

    monkeypatch.setattr(SafetensorsSource, "__init__", count_header)
    monkeypatch.setattr(schema, "parse_recipe", count_recipe)
    return found


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return tiny.recipe(tmp_path / "r.yaml", tiny.PUMER)


@pytest.fixture
def ckpt(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "ckpt"))


def call(*words: object) -> None:
    result = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_apply_opens_both_once(opened: Counter[str], ckpt: Path, recipe: Path) -> None:
    call("apply", "--recipe", recipe, ckpt)
    assert opened == {"ckpt": 1, "r.yaml": 1}
    opened.clear()
    plan = pumer_convert.prepare_apply(ckpt, recipe, ckpt.with_name("again"))
    assert plan.write() == pumer_convert.apply(ckpt, recipe, plan.out, overwrite=True)
    assert opened == {"ckpt": 2, "r.yaml": 2}, "a plan, and an `apply`"


def test_a_pipeline_and_an_evaluation_open_a_checkpoint_once(opened: Counter[str], ckpt: Path, tmp_path: Path) -> None:
    answer = Pipeline(ckpt, device="cpu")(Image.new("RGB", (96, 96)), "what color is the circle ?")
    assert opened == {"ckpt": 1}
    assert (
        answer.text == Pipeline(CHECKPOINT, device="cpu")(Image.new("RGB", (96, 96)), "what color is the circle ?").text
    )
    opened.clear()
    data = lessons.jsonl(tmp_path / "data.jsonl", lessons.samples(tmp_path / "pictures"))
    pumer_convert.evaluate(ckpt, data, against=CHECKPOINT, device="cpu")
    assert opened == {"ckpt": 1, CHECKPOINT.name: 1}


def test_an_export_opens_a_checkpoint_once(opened: Counter[str], ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pumer_convert.export import onnx

    def stop(*_: object) -> None:
        raise InputError("that is enough")

    monkeypatch.setattr(onnx, "build", stop)
    with pytest.raises(InputError, match="that is enough"):
        pumer_convert.export_folder(ckpt)
    assert opened == {"ckpt": 1}


def test_a_training_in_one_go_opens_the_dense_checkpoint_and_its_recipe_once(
    opened: Counter[str], ckpt: Path, recipe: Path, tmp_path: Path
) -> None:
    data = lessons.jsonl(tmp_path / "data.jsonl", lessons.samples(tmp_path / "pictures"))
    recipe.write_text(recipe.read_text() + "distill: {epochs: 1, batch_size: 4}\n")
    out = ("-o", tmp_path / "out", "--data", data, "--device", "cpu")
    call("apply", "--distill", "--recipe", recipe, ckpt, *out)
    assert opened == {"ckpt": 1, "r.yaml": 1, ".out.student": 1}


def test_a_plan_goes_by_the_recipe_that_it_was_made_of(ckpt: Path, recipe: Path) -> None:
    plan, text = pumer_convert.prepare_apply(ckpt, recipe), recipe.read_text()
    tiny.recipe(recipe, tiny.ZERO)
    report = plan.write()
    assert (plan.out / "recipe.yaml").read_text() == text
    assert [edit["at"] for edit in report["plan"]["edits"]] == ["encoder.1", "encoder.2", "encoder.4"]


@pytest.mark.parametrize("form", ["safetensors", "pickle"])
def test_weights_that_change_under_an_open_checkpoint_are_refused(tmp_path: Path, ckpt: Path, form: str) -> None:
    file = ckpt / "model.safetensors"
    weights = load_file(file)
    if form == "pickle":
        file.unlink()
        file = ckpt / "pytorch_model.bin"
        torch.save(weights, file)
    plan = pumer_convert.prepare_apply(ckpt, tiny.recipe(tmp_path / "r.yaml", tiny.PUMER), tmp_path / "out")
    checkpoint = open_checkpoint(ckpt)
    weights = {name: tensor + 1 for name, tensor in weights.items()}
    (save_file if form == "safetensors" else torch.save)(weights, file)
    with pytest.raises(InputError, match=rf"{file.name}: was changed after it had been opened"):
        plan.write()
    assert not plan.out.exists()
    with pytest.raises(InputError, match="was changed"):
        build(checkpoint)
    build(open_checkpoint(ckpt))


def test_weights_that_change_while_they_are_read_are_refused(tmp_path: Path, ckpt: Path) -> None:
    tensors = open_checkpoint(ckpt).tensors()
    next(tensors)
    shutil.copyfile(ckpt / "model.safetensors", tmp_path / "other")
    (tmp_path / "other").replace(ckpt / "model.safetensors")
    with pytest.raises(InputError, match="was changed after it had been opened"):
        list(tensors)
