"""The written lists of parameters are those of the networks, and a checkpoint is checked by them before all else."""

import json
from pathlib import Path

import pytest
import random_checkpoint
import torch
from safetensors.torch import load_file, save_file
from tiny import PUMER, recipe

import pumer_convert
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.apply import prepare_apply
from pumer_convert.demo import CHECKPOINT
from pumer_convert.errors import InputError
from pumer_convert.models.family import family_module


@pytest.mark.parametrize("base", [False, True])
@pytest.mark.parametrize("task", random_checkpoint.TASKS)
@pytest.mark.parametrize("model", random_checkpoint.FORMATS)
def test_they_are_those_of_the_network(model: str, task: str, base: bool) -> None:
    config = random_checkpoint.config(model, task, base=base)
    if not base and model == "vilt":
        config |= {"qkv_bias": False}
    with torch.device("meta"):
        network = family_module(model).build(config)
    shapes = {name: tuple(value.shape) for name, value in network.named_parameters()}
    assert family_module(model).parameters(config) == shapes


@pytest.mark.parametrize("name", ["checkpoint", "nlvr2"])
def test_they_are_those_of_the_embedded_checkpoints(name: str) -> None:
    checkpoint = open_checkpoint(CHECKPOINT.parent / name)
    assert set(family_module("vilt").parameters(checkpoint.config)) == set(checkpoint.slices)


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
