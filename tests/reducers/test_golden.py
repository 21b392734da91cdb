"""The numbers of the authors' own code: METER, ViLT and PuMer, dense and reduced, out of files in their formats."""

import zlib
from pathlib import Path

import golden
import pytest
import torch

import pumer_convert

NUMBERS = golden.numbers()
PROBE = 2618132892


def limit(case: golden.Case, dtype: str) -> float:
    """The relative error allowed. PuMer's softmax is float32 in every type, so its float64 numbers hold to 1e-8 only
    where float32 exponentials and sums round as on the processor that recorded them, and to 1e-6 elsewhere."""
    if dtype == "float32":
        return 1e-5
    sums = (golden.uniform("probe", (64, 85), 2.0) - 3.5).exp().sum(-1)
    return 1e-8 if not case.published or zlib.crc32(sums.numpy().tobytes()) == PROBE else 1e-6


def test_every_case_has_its_numbers() -> None:
    assert list(NUMBERS) == list(golden.CASES)


@pytest.mark.parametrize("name", golden.CASES)
def test_the_logits_are_those_of_the_original(tmp_path: Path, name: str) -> None:
    case, want = golden.CASES[name], NUMBERS[name]
    path = golden.write(case, tmp_path / "checkpoint")
    batch = golden.inputs(case)
    logits = torch.tensor(want["logits"], dtype=torch.float64)
    for dtype in ("float64", "float32"):
        model = pumer_convert.load(path, dtype=dtype)
        tokens: list[list[int]] = []
        for step in model.reducers.children():
            step.register_forward_hook(lambda _, __, out, t=tokens: t.append([part.states.shape[1] for part in out]))
        with torch.no_grad():
            got = model(**{**batch, "pixel_values": batch["pixel_values"].to(getattr(torch, dtype))}).logits
        assert tokens == want["tokens"]
        assert float((got - logits).abs().max() / logits.abs().max()) <= limit(case, dtype), dtype
