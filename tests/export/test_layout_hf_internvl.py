"""The layout hf of InternVL: transformers generates with the reduced vision part, of pictures in tiles too."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_internvl
import torch
from in_place import handed
from registered import DENSE, restore
from tiny_internvl import IMAGE
from transformers import AutoModelForImageTextToText
from transformers.modeling_outputs import BaseModelOutputWithPooling

import pumer_convert
from pumer_convert.convert.apply import apply
from pumer_convert.convert.load import load
from pumer_convert.errors import InputError
from pumer_convert.export.layouts.hf import export_hf

PRUNED = "  - {at: projector, prune: {image: {keep: 5}, by: cls_attention}}\n"
MERGED = "  - {at: vision.0-2, merge: {image: 0.2}, unmerge: before_projector}\n"
COUNTS = {PRUNED: 5, MERGED: 9, MERGED + PRUNED: 5}
TILES = (2, 1)
"""Of the picture of each of two prompts."""


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with torch.no_grad():
        yield
    restore()


def prompts(tokens: int) -> dict[str, Any]:
    """What InternVLProcessor, which needs torchvision, makes of two prompts: as many image tokens as its
    image_seq_length says for each tile, padded on the left."""
    words = [[4, *[IMAGE] * tokens * TILES[0], 5, 7, 9], [4, *[IMAGE] * tokens * TILES[1], 8]]
    longest = max(map(len, words))
    ids = torch.tensor([[0] * (longest - len(own)) + own for own in words])
    tiles = torch.randn(sum(TILES), 3, 48, 48, generator=torch.Generator().manual_seed(2))
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "pixel_values": tiles}


@pytest.mark.parametrize("steps", COUNTS)
def test_it_generates_what_the_reduced_model_gives_it_to_read(steps: str, tmp_path: Path) -> None:
    dense = tiny_internvl.write(tmp_path / "dense", shards="60KB")
    (dense / "processor_config.json").write_text(
        json.dumps(
            {
                "image_processor": json.loads((dense / "preprocessor_config.json").read_text()),
                "image_seq_length": 9,
                "processor_class": "InternVLProcessor",
            }
        )
    )
    (dense / "preprocessor_config.json").unlink()
    (dense / "video_preprocessor_config.json").write_text('{"video_processor_type": "InternVLVideoProcessor"}')
    (tmp_path / "r.yaml").write_text(f"recipe: 1\nmodel: internvl\nreduce:\n{steps}")
    apply(dense, tmp_path / "r.yaml", part := tmp_path / "part")
    tokens = COUNTS[steps]
    whole = tmp_path / "whole"
    assert export_hf(part, whole)["image_tokens"] == tokens
    processor = json.loads((whole / "processor_config.json").read_text())
    assert (processor["image_seq_length"], processor["processor_class"]) == (tokens, "InternVLProcessor")
    assert processor["image_processor"]["size"] == {"height": 48, "width": 48}
    assert (whole / "video_preprocessor_config.json").exists(), "without it transformers makes no processor"
    assert json.loads((whole / "config.json").read_text())["image_seq_length"] == tokens
    pumer_convert.register()
    network = AutoModelForImageTextToText.from_pretrained(whole).eval()
    assert type(network).__name__ == "ReducedInternVL"
    asked = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    found = network.generate(**prompts(tokens), **asked)
    # The dense model, which is handed the embeddings that the reduced vision part gives.
    own, vision = DENSE["internvl"].from_pretrained(dense).eval(), load(part)
    own.model.get_image_features = lambda pixel_values, **more: BaseModelOutputWithPooling(
        pooler_output=vision(pixel_values).outputs["image_features"]
    )
    _, positions = handed(own, prompts(tokens), vision(prompts(tokens)["pixel_values"]), 9, IMAGE)
    assert torch.equal(found, own.generate(**prompts(tokens), **asked, position_ids=positions))
    logits = own(**prompts(tokens), position_ids=positions).logits
    torch.testing.assert_close(network(**prompts(tokens)).logits, logits, atol=1e-4, rtol=1e-4)
    assert tokens == 9 or not torch.allclose(own(**prompts(tokens)).logits, logits, atol=1e-2)
    assert found[:, -6:].unique().numel() > 1
    with pytest.raises(InputError, match="was reduced for the features"):
        network.get_image_features(prompts(tokens)["pixel_values"], vision_feature_layer=-2)


def test_a_dense_model_is_what_it_was(tmp_path: Path) -> None:
    folder = tiny_internvl.write(tmp_path / "dense")
    dense = DENSE["internvl"].from_pretrained(folder).eval()(**prompts(9)).logits
    pumer_convert.register()
    own = AutoModelForImageTextToText.from_pretrained(folder).eval()
    assert type(own).__name__ == "ReducedInternVL"
    torch.testing.assert_close(own(**prompts(9)).logits, dense, atol=1e-5, rtol=1e-5)
