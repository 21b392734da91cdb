"""tools/measure/growth.py: the exponents of known growth, and a run on small models."""

import json
from pathlib import Path

import growth
import pytest
from click.testing import CliRunner
from PIL import Image


def test_exponents_of_known_growth() -> None:
    sizes = [growth.size_of("image", side, 16) for side in (224, 384, 768)]
    assert sizes == [14**2, 24**2, 48**2]
    assert growth.exponent(sizes, [3 * size**1.5 for size in sizes]) == pytest.approx(1.5)
    assert growth.exponent([1, 2, 4], [5, 5, 5]) == pytest.approx(0)


@pytest.mark.parametrize("model", ["vilt", "meter"])
def test_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    monkeypatch.setattr(growth, "USUAL", {"image": 64, "text": 8, "batch": 1, "width": 64})
    words = [str(tmp_path / "g.json"), "--model", model, "--repeats", "1", "--device", "cpu"]
    words += ["--axis", "image", "--values", "64", "--values", "160", "--plot", str(tmp_path / "g.png")]
    shown = CliRunner().invoke(growth.main, words, catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    (found,) = json.loads((tmp_path / "g.json").read_text())["axes"]
    assert [row["image"] for row in found["rows"]] == [64, 160]
    assert found["rows"][1]["bytes"]["dense"] > 0
    assert shown.stdout.splitlines()[-1].startswith("| image | 64 .. 160 | x")
    with Image.open(tmp_path / "g.png") as drawn:
        assert drawn.height > 400


def test_models_share_their_weights(tmp_path: Path) -> None:
    shape = {"image": 64, "text": 8, "batch": 1, "width": 64}
    pair = growth.models("vilt", growth.RECIPES / "vilt.yaml", shape, growth.torch.device("cpu"))
    dense, reduced = (dict(model.named_parameters()) for model in pair.values())
    assert dense.keys() == reduced.keys()
    assert all(dense[name].data_ptr() == reduced[name].data_ptr() for name in dense)
    assert len(pair["reduced"].get_submodule("reducers")._modules) == 3
