"""What trainers leave around a model, read or named: the attribute that held it, an average's count, adapters, the
parts that DeepSpeed and torch.distributed spread over folders, and downloads that never came."""

from pathlib import Path

import pytest
import tiny
import torch
import transformers
from command import run
from test_wrapped_weights import WEIGHTS, folder, opened, prefixed, same

from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.errors import InputError

__all__ = ["folder"]


@pytest.mark.parametrize("held", ["vilt.", "backbone.", "model.encoder.", "system.vqa."])
def test_a_model_that_a_script_held_under_any_name(folder: Path, held: str) -> None:
    content = {"state_dict": prefixed(held), "hyper_parameters": {"lr": 1e-4}, "epoch": 3}
    found = opened(folder, content)
    assert same(found)
    assert held.removeprefix("model.") in " ".join(found.notes)


def test_what_lies_beside_the_model_that_a_script_held_is_named(folder: Path) -> None:
    with pytest.raises(InputError, match=r"1 unexpected: criterion\.weight"):
        opened(folder, {"state_dict": {**prefixed("vilt."), "criterion.weight": torch.ones(7)}})
    with pytest.raises(InputError, match=r"several models, named 'student\.', 'teacher\.' and on"):
        opened(folder, {"state_dict": {**prefixed("student."), **prefixed("teacher.")}})


def test_the_count_of_a_running_average_is_no_weight(folder: Path) -> None:
    assert same(opened(folder, {"n_averaged": torch.tensor(3), **prefixed("module.")}))


@pytest.mark.parametrize(
    "name",
    [
        "vilt.encoder.layer.0.attention.attention.query.lora_A.default.weight",
        "base_model.model.vilt.encoder.layer.0.attention.attention.query.lora_A.weight",
        "base_model.model.vilt.encoder.layer.0.attention.attention.query.base_layer.weight",
        "base_model.model.classifier.modules_to_save.default.3.weight",
    ],
)
def test_an_adapter_is_known_by_its_weights(folder: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"of an adapter of PEFT; merge it into its model \(merge_and_unload\)"):
        opened(folder, {**WEIGHTS, name: torch.zeros(8, 48)})


def test_weights_that_zero_has_spread_are_named(folder: Path) -> None:
    with pytest.raises(InputError, match=r"is empty: DeepSpeed's ZeRO .* zero_to_fp32\.py"):
        opened(folder, {"module": {name: torch.empty(0) for name in WEIGHTS}})


def test_inspect_says_that_weights_do_not_fit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({**WEIGHTS, "loss.weight": torch.ones(3)}, folder / "pytorch_model.bin")
    code, said = run(monkeypatch, capsys, "inspect", folder)
    assert code == 2
    assert "1 unexpected: loss.weight" in said


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["zero_to_fp32.py", "latest"], "'zero_to_fp32.py' is of DeepSpeed"),
        (["global_step9/mp_rank_00_model_states.pt"], "'global_step9/mp_rank_00_model_states.pt' is of DeepSpeed"),
        ([".metadata", "__0_0.distcp"], "'__0_0.distcp' is a part of a checkpoint of torch.distributed"),
        (["pytorch_model_fsdp_0/__0_0.distcp"], "'pytorch_model_fsdp_0/__0_0.distcp' is a part"),
        (["tf_model.h5"], "'tf_model.h5' holds weights of TensorFlow or Flax"),
        (["model.safetensors.crdownload"], "is a download that has not ended"),
        (["model.onnx"], "'model.onnx' is an exported model; give the checkpoint"),
        (["checkpoint-500/model.safetensors"], "'checkpoint-500' is a folder of a trainer"),
        (["last.ckpt/checkpoint/x_model_states.pt"], "'last.ckpt' is a folder of a trainer"),
        (["modules.json", "0_CLIPModel/model.safetensors"], "'0_CLIPModel/model.safetensors' lies in a folder of its"),
        (["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"], "2 shards .* without their index"),
    ],
)
def test_what_is_there_instead_of_weights_is_named(folder: Path, files: list[str], says: str) -> None:
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(b"x")
    with pytest.raises(InputError, match=says):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "preprocessor_config.json", "pytorch_model.bin"])
def test_a_pointer_of_git_lfs_is_named_whatever_file_it_stands_for(folder: Path, name: str) -> None:
    opened(folder, WEIGHTS)
    (folder / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 466062\n")
    with pytest.raises(InputError, match=rf"{name}:? .*a Git LFS pointer, not .*`git lfs pull`"):
        open_checkpoint(folder)


def test_a_file_is_not_read_without_the_config_beside_it(folder: Path) -> None:
    for name in ("best.pt", "last.pt"):
        torch.save(WEIGHTS, folder / name)
    with pytest.raises(InputError, match=r"best\.pt: beside it lies config\.json, .* give the folder"):
        open_checkpoint(folder / "best.pt")
    (folder / "last.pt").unlink()
    assert same(open_checkpoint(folder))


def test_weights_without_a_config_are_said_to_be_read_by_defaults(folder: Path) -> None:
    assert not any("config.json" in note for note in opened(folder, WEIGHTS).notes)
    torch.manual_seed(0)
    config = transformers.ViltConfig(num_hidden_layers=12, intermediate_size=8, vocab_size=9, num_labels=3)
    names = transformers.ViltForQuestionAnswering(config).state_dict()
    (folder / "config.json").unlink()
    torch.save(names, folder / "pytorch_model.bin")
    found = open_checkpoint(folder)
    assert found.config["num_attention_heads"] == 12
    assert any("no config.json with these weights" in note for note in found.notes)


def test_an_original_that_draws_patches_is_said_to_see_all(tmp_path: Path) -> None:
    file = tiny.original_vilt(tmp_path / "a.ckpt")
    content = torch.load(file, weights_only=False)
    for limit, says in ((200, True), (-1, False)):
        content["hyper_parameters"]["config"]["max_image_len"] = limit
        file.unlink()  # what was read of it may still be mapped
        torch.save(content, file)
        assert any(f"max_image_len: {limit}" in note for note in open_checkpoint(file).notes) == says
