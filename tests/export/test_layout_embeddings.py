"""The layout embeddings: pictures in the form that servers take them in. The servers themselves are not run."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import whole_tiles
from click.testing import CliRunner
from PIL import Image
from tiny_clip import write as write_clip
from whole_llava import IMAGE, write

from pumer_convert import Pipeline
from pumer_convert.cli import cli
from pumer_convert.convert.apply import apply
from pumer_convert.errors import InputError
from pumer_convert.export.layouts.embeddings import export_embeddings
from pumer_convert.export.layouts.openvino_genai import export_openvino_genai
from pumer_convert.export.layouts.ort_genai import export_ort_genai

RECIPE = """recipe: 1
model: llava
reduce:
  - {at: projector, prune: {image: {keep: 9}, by: divprune}}
export: {dtype: float32}
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the layout, its checkpoint gone; not to be changed."""
    folder = tmp_path_factory.mktemp("embeddings")
    write(folder / "dense")
    (folder / "r.yaml").write_text(RECIPE)
    apply(folder / "dense", folder / "r.yaml", folder / "part")
    args = ["export", str(folder / "part"), "--layout", "embeddings", "-o", str(folder / "served")]
    found = CliRunner().invoke(cli, args, catch_exceptions=False)
    assert found.stdout.splitlines()[0] == f"wrote {folder / 'served'} (9 tokens of a picture)"
    (folder / "part").rename(folder / "away")
    return folder / "served"


@pytest.fixture(scope="module")
def encoder(served: Path) -> Any:
    spec = importlib.util.spec_from_file_location("encoder", served / "encoder.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Encoder()


@pytest.fixture
def pictures(tmp_path: Path) -> list[Any]:
    """A file and a picture."""
    random = np.random.default_rng(0)
    made = [Image.fromarray(random.integers(0, 256, (*side, 3), np.uint8)) for side in ((48, 48), (60, 90))]
    made[0].save(tmp_path / "a.png")
    return [tmp_path / "a.png", made[1]]


def test_it_gives_what_a_pipeline_does(served: Path, encoder: Any, pictures: list[Any]) -> None:
    rows = encoder(pictures)
    assert (rows.shape, rows.dtype) == ((2, 9, 48), np.float32)
    assert np.array_equal(rows, Pipeline(served / "vision.onnx").embed_images(pictures))
    assert np.abs(rows[0] - rows[1]).max() > 0.1


def test_shapes_are_those_that_servers_document(encoder: Any, pictures: list[Any]) -> None:
    rows = torch.from_numpy(encoder(pictures))
    vllm = encoder.vllm("<image> <image> w5", pictures)
    assert vllm["prompt"] == "<image> <image> w5"
    assert vllm["multi_modal_data"]["image"].shape == (2, 9, 48)
    assert torch.equal(vllm["multi_modal_data"]["image"], rows.half())
    sglang = encoder.sglang([5, IMAGE, 7, IMAGE], pictures, dtype="bfloat16")
    assert sglang["input_ids"] == [5, *[IMAGE] * 9, 7, *[IMAGE] * 9]
    assert [item["format"] for item in sglang["image_data"]] == ["precomputed_embedding"] * 2
    assert torch.equal(torch.stack([item["feature"] for item in sglang["image_data"]]), rows.bfloat16())
    own = encoder.tensorrt_llm("<image> <image>", pictures, dtype="float32")["multi_modal_embeddings"]["image"]
    assert [tuple(one.shape) for one in own] == [(9, 48)] * 2
    assert torch.equal(torch.stack(own), rows)
    with pytest.raises(InputError, match=r"the prompt has 1 image tokens \(98\) for 2 pictures; put one for each"):
        encoder.sglang([5, IMAGE], pictures)


def test_what_is_written(served: Path, tmp_path: Path) -> None:
    report = json.loads((served / "report.json").read_text())
    assert (report["image_tokens"], report["dense_tokens"], report["width"], report["image_token_id"]) == (
        9,
        36,
        48,
        98,
    )
    guide = (served / "README.md").read_text()
    assert "**none of them was run**" in guide
    assert "{" not in guide
    with pytest.raises(InputError, match="exists already; use --overwrite"):
        export_embeddings(served.parent / "away", served)
    export_embeddings(served.parent / "away", served, overwrite=True)
    with pytest.raises(InputError, match="a clip has no language model to generate with; the layout embeddings is"):
        export_embeddings(write_clip(tmp_path / "clip"), tmp_path / "out")


def test_tiles_are_left_to_the_layout_hf(tmp_path: Path) -> None:
    whole = whole_tiles.write(tmp_path / "dense", splits=True)
    for export, more in (
        (export_embeddings, ()),
        (export_openvino_genai, (tmp_path / "into",)),
        (export_ort_genai, (None,)),
    ):
        with pytest.raises(InputError, match=r"cuts pictures into tiles, and the layout .* the layout hf takes tiles"):
            export(whole, *more, tmp_path / "out")
