"""A checkpoint is checked by the names and shapes of its network before all else."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tiny import PUMER, recipe

import pumer_convert
from pumer_convert.checkpoint.read import check_complete, open_checkpoint
from pumer_convert.convert.apply import prepare_apply
from pumer_convert.demo import CHECKPOINT
from pumer_convert.errors import InputError
from pumer_convert.models.values import WHOLE
from pumer_convert.models.vilt.config import PAIRS


def test_a_plan_is_not_made_for_weights_that_do_not_fit(tmp_path: Path) -> None:
    state = load_file(CHECKPOINT / "model.safetensors")
    state["odd"] = state.pop("vilt.pooler.dense.bias")
    (tmp_path / "ckpt").mkdir()
    save_file(state, tmp_path / "ckpt" / "model.safetensors")
    config = json.loads((CHECKPOINT / "config.json").read_text())
    (tmp_path / "ckpt" / "config.json").write_text(json.dumps(config | {"vocab_size": config["vocab_size"] + 1}))
    file = recipe(tmp_path / "r.yaml", PUMER)
    with pytest.raises(InputError) as error:
        prepare_apply(tmp_path / "ckpt", file)
    words = "vilt.embeddings.text_embeddings.word_embeddings.weight"
    rows, width = state[words].shape
    assert str(error.value) == (
        f"{tmp_path / 'ckpt'}: the weights do not fit the config; 1 missing: vilt.pooler.dense.bias; "
        f"1 unexpected: odd; 1 of another shape: {words} ({rows}, {width}) instead of ({rows + 1}, {width})."
    )
    with pytest.raises(InputError, match="the weights do not fit the config"):
        pumer_convert.load(tmp_path / "ckpt")


@pytest.mark.parametrize(
    "values",
    [
        {"hidden_size": WHOLE, "intermediate_size": WHOLE, "image_size": WHOLE, "patch_size": WHOLE},
        {"hidden_size": WHOLE, "intermediate_size": WHOLE, "image_size": WHOLE, "patch_size": 1},
        {"hidden_size": WHOLE, "architectures": [PAIRS], "num_images": 1000, "modality_type_vocab_size": WHOLE},
    ],
    ids=str,
)
def test_the_largest_network_of_a_config_is_refused_as_any_other(tmp_path: Path, values: dict[str, Any]) -> None:
    shutil.copyfile(CHECKPOINT / "model.safetensors", tmp_path / "model.safetensors")
    config = json.loads((CHECKPOINT / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | values))
    with pytest.raises(InputError, match=r"the weights do not fit the config; \d+ of another shape"):
        check_complete(open_checkpoint(tmp_path))
