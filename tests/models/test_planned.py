"""Models that are known and left alone: what is told of them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import Qwen2_5_VLConfig, Qwen3VLConfig

from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.errors import InputError
from pumer_convert.models.planned import shares

QWEN25_3B: dict[str, Any] = {
    "model_type": "qwen2_5_vl",
    "vision_config": {"hidden_size": 1280, "out_hidden_size": 2048},
    **{"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36},
    **{"num_attention_heads": 16, "num_key_value_heads": 2},
}
"""As published: what is the language model's lies flat."""
QWEN3_8B: dict[str, Any] = {
    "model_type": "qwen3_vl",
    "vision_config": {"deepstack_visual_indexes": [8, 16, 24]},
    "text_config": {
        **{"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "head_dim": 128},
        **{"num_attention_heads": 32, "num_key_value_heads": 8},
    },
}


@pytest.mark.parametrize(
    ("config", "expected"), [(QWEN25_3B, {448: 42, 896: 46, 1344: 47}), (QWEN3_8B, {448: 16, 896: 23, 1344: 30})]
)
def test_the_shares_are_those_that_were_counted_by_hand(config: dict[str, Any], expected: dict[int, int]) -> None:
    for side, percent in expected.items():
        assert round(100 * shares(config, "here", side)["tower"]) == percent


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (QWEN25_3B, r"a Qwen2\.5-VL, whose .* the tower is 42% of the cost, the merger 1%, the language model 57%\."),
        (Qwen2_5_VLConfig().to_dict(), r"the grid of patches, .* the tower is \d+% of the cost, the merger \d%"),
        (Qwen3VLConfig().to_dict(), r"a Qwen3-VL, .* the tower is \d+% of the cost, the merger \d%"),
        ({**QWEN3_8B, "vision_config": {"deepstack_visual_indexes": 3}}, r"by the places of single patches\.$"),
        ({"model_type": "qwen3_vl", "text_config": {"hidden_size": "many"}}, r"by the places of single patches\.$"),
        ({"model_type": "qwen3_vl", "vision_config": {"depth": -1}}, r"by the places of single patches\.$"),
        ({"model_type": "qwen3_vl", "vision_config": [1]}, r"by the places of single patches\.$"),
    ],
)
def test_they_are_refused_with_the_reason(config: dict[str, Any], says: str, tmp_path: Path) -> None:
    save_file({"visual.patch_embed.proj.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=says) as error:
        open_checkpoint(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}: a Qwen")
