"""tools/measure/step_time.py on a tiny model: both steps are measured, by the options or a recipe."""

import argparse
import json

import pytest
import step_time
import torch
from click.testing import CliRunner
from gpu_suite import RECIPES


@pytest.mark.parametrize("more", [[], ["--recipe", str(RECIPES / "vilt-fast.yaml")]])
def test_both_steps(more: list[str]) -> None:
    words = ["--tiny", "--pairs", "2", "--batch-size", "2", "--length", "8", "--device", "cpu"]
    shown = CliRunner().invoke(step_time.main, [*words, *more], catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.stdout)
    assert len(told["ratios"]) == 2
    assert told["image_tokens"][0] > told["image_tokens"][1]
    assert min(told["dense_seconds"], told["student_seconds"], told["dense_bytes"]) > 0
    assert 0 < told["student_activations"] < told["dense_activations"]


def test_what_is_kept_for_the_backward_pass() -> None:
    class Squares(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> argparse.Namespace:  # type: ignore[override]
            return argparse.Namespace(logits=super().forward(x).square())

    model = Squares(4, 8)
    # The input of the product and of the square, in float32; the weight is the model's own.
    assert step_time.saved_for_backward(model, {"x": torch.ones(2, 4)}) == 4 * (2 * 4 + 2 * 8)
