"""What version 0.1 wrote is read as it was meant: a reduced folder, its report and recipe, and both sidecars."""

import json
import shutil
from pathlib import Path

import pytest
import tiny
import torch

from pumer_convert.artifact.engine_sidecar import Sidecar
from pumer_convert.artifact.sidecar import labels_of, read_sidecar
from pumer_convert.checkpoint.origin import origin_of
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.load import load, plan_of
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.demo import CHECKPOINT
from pumer_convert.recipe.schema import load_recipe

WRITTEN = Path(__file__).parent / "support" / "version_0_1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A reduced folder of version 0.1 beside the dense checkpoint it was made from."""
    shutil.copytree(CHECKPOINT, tmp_path / "checkpoint")
    out = tmp_path / "checkpoint-pumer"
    shutil.copytree(WRITTEN, out)
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        shutil.copyfile(CHECKPOINT / name, out / name)
    return out


def test_a_reduced_folder(folder: Path) -> None:
    report = json.loads((folder / "report.json").read_text())
    assert json.loads(json.dumps(plan_of(open_checkpoint(folder)).to_json())) == report["plan"]
    with torch.no_grad():
        output = load(folder)(**tiny.batch(rows=2, text=9))
    assert output.image.states.shape[1] == report["plan"]["rows"][-1]["image_out"]
    origin = origin_of(folder)
    assert origin is not None
    assert origin.place is not None
    assert origin.place.samefile(folder.parent / "checkpoint")


def test_a_recipe(folder: Path) -> None:
    report = json.loads((folder / "report.json").read_text())
    found = load_recipe(folder / "recipe.yaml").to_json()
    since = {name: found["distill"].pop(name) for name in ("cosine", "contrastive")}
    assert found == report["recipe"]
    assert since == dict.fromkeys(since), "what it does not say is as it was"


def test_the_sidecars(folder: Path) -> None:
    for name in ("model.onnx", "model.engine"):
        (folder / name).write_bytes(b"")
        values = read_sidecar(folder / name)
        assert labels_of(values, folder / name)[0] == "yes"
        assert Preprocessor.of_sidecar(values, folder).longest == 40
    engine = Sidecar.of(folder / "model.engine")
    assert engine.flavour == "tensorrt-rtx"
    assert engine.profiles[0]["text"] == (4, 32, 40)
