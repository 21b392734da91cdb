"""The layout hf of LLaVA-OneVision: transformers packs the tiles of the reduced vision part, and generates."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_llava
import torch
from PIL import Image
from registered import DENSE, restore
from transformers import AutoModelForImageTextToText
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

import pumer_convert
from pumer_convert.convert.apply import apply
from pumer_convert.convert.load import load
from pumer_convert.errors import InputError
from pumer_convert.export.layouts.hf import export_hf

IMAGE, NEW = 98, 6
MERGED = "  - {at: vision.0-1, merge: {image: 0.2}, unmerge: before_projector}\n"
PRUNED = "  - {at: projector, prune: {image: {keep: 5}, by: divprune}}\n"


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with torch.no_grad():
        yield
    restore()


def reduced(folder: Path, steps: str) -> Path:
    tiny_llava.write_onevision(folder / "dense")
    (folder / "r.yaml").write_text(f"recipe: 1\nmodel: llava_onevision\nreduce:\n{steps}")
    apply(folder / "dense", folder / "r.yaml", folder / "part")
    return folder / "part"


def asked(folder: Path, counts: list[int]) -> dict[str, Any]:
    """Two pictures of other shapes and a word or two, padded on the left; `counts` are their tokens."""
    random = np.random.default_rng(0)
    pictures = [Image.fromarray(random.integers(0, 256, (*side, 3), np.uint8)) for side in ((48, 48), (50, 90))]
    given = LlavaOnevisionImageProcessorPil.from_pretrained(folder)(pictures, return_tensors="pt")
    rows = [[2, *[IMAGE] * count, *words] for count, words in zip(counts, ([5, 7], [8]), strict=True)]
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    return {**given, "input_ids": ids, "attention_mask": (ids != 0).long()}


def tokens(folder: Path) -> list[int]:
    """How many each of the two pictures has in the dense class."""
    model = DENSE["llava_onevision"].from_pretrained(folder).eval().model
    given = asked(folder, [1, 1])
    return [len(one) for one in model.get_image_features(given["pixel_values"], given["image_sizes"]).pooler_output]


def test_it_generates_what_the_reduced_model_gives_it_to_read(tmp_path: Path) -> None:
    part = reduced(tmp_path, MERGED)
    assert export_hf(part, tmp_path / "whole")["image_tokens"] == 36
    pumer_convert.register()
    network = AutoModelForImageTextToText.from_pretrained(tmp_path / "whole").eval()
    assert type(network).__name__ == "ReducedLlavaOnevision"
    given = asked(tmp_path / "dense", tokens(tmp_path / "dense"))
    more = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None}
    found = network.generate(**given, **more)
    # The dense model, which packs the embeddings that the reduced vision part gives of each tile.
    dense, vision = DENSE["llava_onevision"].from_pretrained(tmp_path / "dense").eval(), load(part)
    seen: list[torch.Tensor] = []
    dense.model.vision_tower.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    dense.model.multi_modal_projector.forward = lambda features: vision(seen[-1]).outputs["image_features"]
    assert torch.equal(found, dense.generate(**given, **more))
    assert found[:, given["input_ids"].shape[1] :].unique().numel() > 1
    assert not torch.equal(
        found, DENSE["llava_onevision"].from_pretrained(tmp_path / "dense").generate(**given, **more)
    )


def test_a_dense_model_is_what_it_was(tmp_path: Path) -> None:
    folder = tiny_llava.write_onevision(tmp_path / "dense")
    given = asked(folder, tokens(folder))
    dense = DENSE["llava_onevision"].from_pretrained(folder).eval()(**given).logits
    pumer_convert.register()
    own = AutoModelForImageTextToText.from_pretrained(folder).eval()
    assert type(own).__name__ == "ReducedLlavaOnevision"
    torch.testing.assert_close(own(**given).logits, dense, atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="reduced for the features -1, not -2"):
        own.model.get_image_features(given["pixel_values"], given["image_sizes"], vision_feature_layer=-2)


def test_fewer_tokens_than_its_processor_counts_are_refused(tmp_path: Path) -> None:
    part = reduced(tmp_path, PRUNED)
    with pytest.raises(InputError, match="gives 5 tokens instead of 36, and its processor computes their number from"):
        export_hf(part, tmp_path / "whole")
    assert not (tmp_path / "whole").exists()
