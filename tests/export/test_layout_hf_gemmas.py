"""The layout hf of PaliGemma and Gemma 3: transformers generates with the reduced vision part."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from in_place import handed
from PIL import Image
from registered import DENSE, restore
from tiny_gemmas import IMAGE
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling
from whole_gemmas import whole

import pumer_convert
from pumer_convert.convert.apply import apply
from pumer_convert.convert.load import load
from pumer_convert.export.layouts.hf import export_hf

NEW = 6
PRUNED = "  - {at: projector, prune: {image: {keep: 5}, by: divprune}}\n"
MERGED = "  - {at: vision.0-1, merge: {image: 0.2}, unmerge: before_projector}\n"
COUNTS = {
    "paligemma": {PRUNED: 5, MERGED: 36, MERGED + PRUNED: 5},
    "gemma3": {PRUNED: 5, MERGED: 9, MERGED + PRUNED: 5},
}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with torch.no_grad():
        yield
    restore()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of PaliGemma's processor
@pytest.mark.parametrize(
    ("model", "steps", "nested"),
    [(model, steps, True) for model, counts in COUNTS.items() for steps in counts] + [("paligemma", PRUNED, False)],
)
def test_it_generates_what_the_reduced_model_gives_it_to_read(
    model: str, steps: str, nested: bool, tmp_path: Path
) -> None:
    """A PaliGemma whose files are not `nested` has them as published."""
    whole(tmp_path / "dense", model, nested)
    (tmp_path / "r.yaml").write_text(f"recipe: 1\nmodel: {model}\nreduce:\n{steps}")
    apply(tmp_path / "dense", tmp_path / "r.yaml", part := tmp_path / "part")
    tokens = COUNTS[model][steps]
    assert export_hf(part, tmp_path / "whole")["image_tokens"] == tokens
    pumer_convert.register()
    network = AutoModelForImageTextToText.from_pretrained(tmp_path / "whole").eval()
    assert type(network).__name__.startswith("Reduced")
    random = np.random.default_rng(0)
    pictures = [[Image.fromarray(random.integers(0, 256, (*side, 3), np.uint8))] for side in ((48, 48), (60, 90))]
    mark = "<image>" if model == "paligemma" else "<start_of_image>"
    given = AutoProcessor.from_pretrained(tmp_path / "whole")(
        images=pictures, text=[f"{mark} w5 w7 w9", f"{mark} w8"], padding=True, return_tensors="pt"
    )
    assert (given["input_ids"] == IMAGE).sum(1).tolist() == [tokens, tokens]
    asked = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None}
    found = network.generate(**given, **asked)
    # The dense model, which is handed the embeddings that the reduced vision part gives.
    dense = DENSE[model].from_pretrained(tmp_path / "dense").eval()
    vision = load(part)
    dense.model.get_image_features = lambda pixel_values, **more: BaseModelOutputWithPooling(
        pooler_output=vision(pixel_values).outputs["image_features"]
    )
    every = load(tmp_path / "dense")(given["pixel_values"]).outputs["image_features"].shape[1]
    _, positions = handed(dense, given, vision(given["pixel_values"]), every, IMAGE)
    assert torch.equal(found, dense.generate(**given, **asked, position_ids=positions))
    first = {"gemma3": 0, "paligemma": 1}[model]
    given_places = {} if every == tokens else {"position_ids": positions + first}
    logits = dense(**given, **given_places).logits
    torch.testing.assert_close(network(**given).logits, logits, atol=1e-4, rtol=1e-4)
    renumbered = dense(**given).logits
    assert every == tokens or not torch.allclose(renumbered, logits, atol=1e-3)
    assert found[:, given["input_ids"].shape[1] :].unique().numel() > 1


@pytest.mark.parametrize("model", COUNTS)
def test_a_dense_model_is_what_it_was(model: str, tmp_path: Path) -> None:
    folder = whole(tmp_path / "dense", model, nested=True)
    ids = torch.tensor([[2, *[IMAGE] * COUNTS[model][MERGED], 7, 8]])
    given = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": (ids == IMAGE).long(),
        "pixel_values": torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(0)),
    }
    dense = DENSE[model].from_pretrained(folder).eval()(**given).logits
    pumer_convert.register()
    own = AutoModelForImageTextToText.from_pretrained(folder).eval()
    assert type(own).__name__.startswith("Reduced")
    torch.testing.assert_close(own(**given).logits, dense, atol=1e-5, rtol=1e-5)
