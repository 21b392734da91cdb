"""The `export:` section of a recipe.yaml counts in the folder that was made of it, and in no other."""

import shutil
from pathlib import Path

import tiny
import torch

from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.apply import apply
from pumer_convert.convert.load import export_settings_of, load
from pumer_convert.demo import CHECKPOINT
from pumer_convert.recipe.schema import ExportSettings

BODY = "  - at: encoder.1\n    merge: {image: 0.2}\nexport: {dtype: float16, keep_float32: [encoder.2]}\n"


def test_a_converted_folder_goes_by_its_recipe(tmp_path: Path) -> None:
    apply(CHECKPOINT, tiny.recipe(tmp_path / "r.yaml", BODY), tmp_path / "out")
    assert export_settings_of(open_checkpoint(tmp_path / "out")).keep_float32 == ("encoder.2",)
    kept = load(tmp_path / "out", dtype="float16").get_parameter("vilt.encoder.layer.2.output.dense.weight")
    assert kept.dtype == torch.float32


def test_what_lies_in_another_folder_is_none_of_ours(tmp_path: Path) -> None:
    folder = shutil.copytree(CHECKPOINT, tmp_path / "dense")
    for text in ("export: {dtype: float16}\n", "ingredients: [flour, water]\n"):
        (folder / "recipe.yaml").write_text(text)
        assert export_settings_of(open_checkpoint(folder)) == ExportSettings()
        assert {parameter.dtype for parameter in load(folder, dtype="float16").parameters()} == {torch.float16}
