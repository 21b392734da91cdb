"""The layout hf of Idefics3 and SmolVLM: transformers generates with the reduced vision part, whatever tiles it is
given."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_tiles
import torch
import whole_tiles
from in_place import handed
from PIL import Image
from registered import DENSE, restore
from tiny_tiles import IMAGE
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.modeling_outputs import BaseModelOutputWithPooling

import pumer_convert
from pumer_convert.convert.apply import apply
from pumer_convert.convert.load import load
from pumer_convert.errors import InputError
from pumer_convert.export.folder import export_folder
from pumer_convert.export.layouts.hf import export_hf
from pumer_convert.export.triton.repository import export_triton

NEW = 6
PRUNED = "  - {at: projector, prune: {image: {keep: 3}, by: divprune}}\n"
MERGED = "  - {at: vision.0-1, merge: {image: 0.2}, unmerge: before_projector}\n"
COUNTS = {PRUNED: 3, MERGED: 4, MERGED + PRUNED: 3}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with torch.no_grad():
        yield
    restore()


def reduced(folder: Path, kind: str, steps: str, **options: Any) -> Path:
    if kind == "idefics3":
        whole_tiles.write(folder / "dense", **options)
    else:
        tiny_tiles.write(folder / "dense", kind, **options)
    (folder / "r.yaml").write_text(f"recipe: 1\nmodel: {kind}\nreduce:\n{steps}")
    apply(folder / "dense", folder / "r.yaml", folder / "part")
    return folder / "part"


def given_features(dense: Any, part: Path) -> Any:
    """The dense model, which is handed the embeddings that the reduced vision part gives."""
    vision = load(part)

    def features(pixel_values: torch.Tensor, *more: Any, **others: Any) -> BaseModelOutputWithPooling:
        tiles = pixel_values.flatten(0, 1)
        seen = vision(tiles[tiles.flatten(1).any(1)]).outputs["image_features"]
        return BaseModelOutputWithPooling(pooler_output=list(seen))

    dense.model.get_image_features = features
    return dense


def places(dense: Any, given: Any, part: Path) -> torch.Tensor:
    """The positions of prompts whose tiles had four tokens each."""
    tiles = given["pixel_values"].flatten(0, 1)
    return handed(dense, given, load(part)(tiles[tiles.flatten(1).any(1)]), 4, IMAGE)[1]


@pytest.mark.parametrize(("steps", "splits"), [*((steps, True) for steps in COUNTS), (PRUNED, False)])
def test_it_generates_what_the_reduced_model_gives_it_to_read(steps: str, splits: bool, tmp_path: Path) -> None:
    part, tokens = reduced(tmp_path, "idefics3", steps, splits=splits), COUNTS[steps]
    assert export_hf(part, tmp_path / "whole")["image_tokens"] == tokens
    pumer_convert.register()
    network = AutoModelForImageTextToText.from_pretrained(tmp_path / "whole").eval()
    assert type(network).__name__ == "ReducedIdefics3"
    random = np.random.default_rng(0)
    pictures = [[Image.fromarray(random.integers(0, 256, (*side, 3), np.uint8))] for side in ((48, 48), (50, 90))]
    given = AutoProcessor.from_pretrained(tmp_path / "whole")(
        images=pictures, text=["<image> w5 w7 w9", "<image> w8"], padding=True, return_tensors="pt"
    )
    tiles = [17, 13] if splits else [1, 1]
    assert (given["input_ids"] == IMAGE).sum(1).tolist() == [tokens * count for count in tiles]
    asked = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None}
    found = network.generate(**given, **asked)
    dense = given_features(DENSE["idefics3"].from_pretrained(tmp_path / "dense").eval(), part)
    positions = places(dense, given, part)
    assert torch.equal(found, dense.generate(**given, **asked, position_ids=positions))
    logits = dense(**given, position_ids=positions).logits
    torch.testing.assert_close(network(**given).logits, logits, atol=1e-4, rtol=1e-4)
    assert tokens == 4 or not torch.allclose(dense(**given).logits, logits, atol=1e-2)
    assert found[:, given["input_ids"].shape[1] :].unique().numel() > 1


def test_smolvlm_generates_likewise(tmp_path: Path) -> None:
    """Of ids made here: its processor is not to be had without torchvision."""
    part = reduced(tmp_path, "smolvlm", MERGED + PRUNED)
    export_hf(part, tmp_path / "whole")
    says = json.loads((tmp_path / "whole" / "processor_config.json").read_text())
    assert says == {"processor_class": "SmolVLMProcessor", "image_seq_len": 3}
    pumer_convert.register()
    network = AutoModelForImageTextToText.from_pretrained(tmp_path / "whole").eval()
    assert type(network).__name__ == "ReducedSmolVLM"
    ids = torch.tensor([[2, *[IMAGE] * 6, 7, 8], [0, 0, 0, 2, *[IMAGE] * 3, 7, 9]])
    pixels = torch.randn(2, 2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    pixels[1, 1] = 0
    given = {"input_ids": ids, "attention_mask": (ids != 0).long(), "pixel_values": pixels}
    asked = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None}
    dense = given_features(DENSE["smolvlm"].from_pretrained(tmp_path / "dense").eval(), part)
    expected = dense.generate(**given, **asked, position_ids=places(dense, given, part))
    assert torch.equal(found := network.generate(**given, **asked), expected)
    assert found[:, ids.shape[1] :].unique().numel() > 1


def test_tiles_of_another_size_than_the_config_says_are_refused(tmp_path: Path) -> None:
    tiny_tiles.write(tmp_path / "dense", "smolvlm", scale_factor=2)
    file = tmp_path / "dense" / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "max_image_size": {"longest_edge": 64}}))
    (tmp_path / "r.yaml").write_text(f"recipe: 1\nmodel: smolvlm\nreduce:\n{MERGED}")
    apply(tmp_path / "dense", tmp_path / "r.yaml", tmp_path / "part")
    with pytest.raises(InputError, match=r"of 64x64 pixels, and its config\.json is for 48x48"):
        export_hf(tmp_path / "part", tmp_path / "whole")


def test_triton_has_one_array_of_a_picture(tmp_path: Path) -> None:
    part = reduced(tmp_path, "smolvlm", MERGED, splits=True)
    export_folder(part, dtype="float32")
    with pytest.raises(InputError, match=r"one array of each; say do_image_splitting false in the checkpoint's"):
        export_triton([part / "vision.onnx"], tmp_path / "triton")
    assert not (tmp_path / "triton").exists()


@pytest.mark.parametrize("kind", tiny_tiles.KINDS)
def test_a_dense_model_is_what_it_was(kind: str, tmp_path: Path) -> None:
    folder = tiny_tiles.write(tmp_path / "dense", kind)
    ids = torch.tensor([[2, *[IMAGE] * 4, 7, 8]])
    given = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(1, 1, 3, 48, 48, generator=torch.Generator().manual_seed(0)),
        "pixel_attention_mask": torch.ones(1, 1, 48, 48, dtype=torch.int64),
    }
    dense = DENSE[kind].from_pretrained(folder).eval()(**given).logits
    pumer_convert.register()
    own = AutoModelForImageTextToText.from_pretrained(folder).eval()
    assert type(own).__name__.startswith("Reduced")
    torch.testing.assert_close(own(**given).logits, dense, atol=1e-5, rtol=1e-5)
    given["pixel_attention_mask"][..., 40:] = 0
    with pytest.raises(InputError, match="pixel_attention_mask hides a part of a tile"):
        own(**given)


def test_tiles_of_another_size_are_left_to_the_whole_model(tmp_path: Path) -> None:
    whole_tiles.write(tmp_path / "dense", scale_factor=2, splits=True)
    (tmp_path / "r.yaml").write_text("recipe: 1\nmodel: idefics3\nimage_size: 32\nreduce: []\n")
    apply(tmp_path / "dense", tmp_path / "r.yaml", tmp_path / "part")
    with pytest.raises(InputError, match="the layout hf takes such a part with the image size of the whole"):
        export_hf(tmp_path / "part", tmp_path / "whole")
    assert not (tmp_path / "whole").exists()
