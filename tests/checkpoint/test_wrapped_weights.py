"""Weights as training scripts leave them: read, or refused by the name of what is in the way; nothing is ever run."""

import argparse
import collections
import gzip
import json
import pathlib
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pumer_convert.checkpoint.read import check_complete, open_checkpoint
from pumer_convert.convert.load import load
from pumer_convert.demo import CHECKPOINT
from pumer_convert.errors import InputError
from pumer_convert.weights import Checkpoint

WEIGHTS = load_file(CHECKPOINT / "model.safetensors")
SOME = "vilt.pooler.dense.bias"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(CHECKPOINT, tmp_path / "ckpt")
    (tmp_path / "ckpt" / "model.safetensors").unlink()
    return tmp_path / "ckpt"


def opened(folder: Path, content: Any, **how: Any) -> Checkpoint:
    """The checkpoint whose pytorch_model.bin holds `content`."""
    torch.save(content, folder / "pytorch_model.bin", **how)
    found = open_checkpoint(folder)
    check_complete(found)
    return found


def same(found: Checkpoint) -> bool:
    read = dict(found.tensors())
    return read.keys() == WEIGHTS.keys() and all(torch.equal(read[name], WEIGHTS[name]) for name in read)


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in WEIGHTS.items()}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "model._orig_mod.", "net."])
def test_prefixes_of_wrappers_are_taken_off_and_said(folder: Path, prefix: str) -> None:
    found = opened(folder, prefixed(prefix))
    assert same(found)
    assert any(prefix.split(".")[0] in note for note in found.notes)
    save_file(prefixed(prefix), folder / "model.safetensors")
    assert same(open_checkpoint(folder))


def test_a_wrapper_inside_a_name(folder: Path) -> None:
    assert same(opened(folder, {n.replace("vilt.encoder", "vilt._orig_mod.encoder"): v for n, v in WEIGHTS.items()}))


def test_a_name_with_and_without_its_prefix_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=f"'{SOME}' and 'module.{SOME}'"):
        opened(folder, {**WEIGHTS, f"module.{SOME}": WEIGHTS[SOME]})


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: {"model": w, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}, "epoch": 3},
        lambda w: {"model_state_dict": w, "epoch": torch.tensor(3)},
        lambda w: {"module": w, "rng": torch.get_rng_state()},
        lambda w: {"model": {"state_dict": w, "config": {"lr": 0.1}}},
        lambda w: {"generator_of_answers": w, "step": 1},
        lambda w: collections.OrderedDict(state_dict=collections.OrderedDict(w)),
    ],
)
def test_dictionaries_around_them(folder: Path, wrap: Callable[[Any], Any]) -> None:
    assert same(opened(folder, wrap(WEIGHTS)))


def test_trained_weights_go_before_their_average_and_both_are_said(folder: Path) -> None:
    average = {name: value + 1 for name, value in WEIGHTS.items()}
    found = opened(folder, {"model": WEIGHTS, "model_ema": average})
    assert same(found)
    assert any("'model'" in note and "'model_ema'" in note for note in found.notes)
    found = opened(folder, {"ema": WEIGHTS, "step": 3})
    assert same(found)
    assert any("'ema'" in note for note in found.notes)


@pytest.mark.parametrize("start", ["ema_model.", "model_ema.module.", "ema."])
@pytest.mark.parametrize("own", ["model.", "module.model.", ""])
def test_an_average_beside_them_name_by_name_is_left_and_said(folder: Path, own: str, start: str) -> None:
    average = {f"{start}{name}": value + 1 for name, value in WEIGHTS.items()}
    counted = {f"{start.partition('.')[0]}.updates": torch.tensor(7)}
    found = opened(folder, {"state_dict": {**{own + n: v for n, v in WEIGHTS.items()}, **average, **counted}})
    assert same(found)
    assert any(f"under '{start.partition('.')[0]}.', which was left" in note for note in found.notes)
    alone = opened(folder, {"state_dict": prefixed(start)})
    assert same(alone)
    assert any(f"{start.partition('.')[0]}." in note for note in alone.notes)


def test_several_models_are_refused_by_name(folder: Path) -> None:
    with pytest.raises(InputError, match="'model', 'net'"):
        opened(folder, {"model": WEIGHTS, "net": WEIGHTS})


class Settings:
    """A script's own class, pickled beside the weights."""

    def __init__(self) -> None:
        self.rate = 0.1


Settings.__module__ = "__main__"


@pytest.mark.parametrize(
    "beside",
    [
        np.float64(0.7),
        np.arange(3),
        collections.defaultdict(list, a=[1]),
        argparse.Namespace(lr=0.1, where=pathlib.PurePosixPath("a")),
        pathlib.PosixPath("a"),
        torch.nn.CrossEntropyLoss(),
        torch.optim.lr_scheduler.ConstantLR(torch.optim.SGD([torch.ones(1)])),
        {("a", 1): {1, 2}},
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.filterwarnings("ignore:Detected call of")
def test_harmless_objects_beside_them(folder: Path, beside: Any) -> None:
    assert same(opened(folder, {"state_dict": WEIGHTS, "more": beside}))


def test_the_class_of_a_script(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import __main__

    monkeypatch.setattr(__main__, "Settings", Settings, raising=False)
    assert same(opened(folder, {"state_dict": WEIGHTS, "settings": Settings()}))


def test_settings_of_a_namespace_are_hints(tmp_path: Path) -> None:
    from pumer_convert.checkpoint.pickles import PickleSource

    settings = argparse.Namespace(config=argparse.Namespace(num_heads=3))
    torch.save({"state_dict": WEIGHTS, "hyper_parameters": settings}, tmp_path / "a.ckpt")
    assert PickleSource(tmp_path / "a.ckpt").hints["num_heads"] == 3


def test_plain_values_among_the_tensors(folder: Path) -> None:
    found = opened(folder, {**WEIGHTS, "best": 0.5, "note": None, "vilt._extra_state": None})
    assert same(found)
    assert any("'best'" in note for note in found.notes)
    for value in (0.5, None, np.ones(2), [1.0]):
        with pytest.raises(InputError, match=SOME):
            opened(folder, {**WEIGHTS, SOME: value})


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (lambda plain: plain.to(torch.int8), "int8"),
        (lambda plain: plain.to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (lambda plain: plain.to(torch.complex64), "complex64"),
        (lambda plain: torch.quantize_per_tensor(plain, 0.1, 0, torch.quint8), "quint8"),
        (lambda plain: plain.to_sparse(), "sparse_coo"),
        (lambda plain: plain.to("meta"), "meta"),
    ],
    ids=["int8", "fp8", "complex", "quantized", "sparse", "meta"],
)
@pytest.mark.filterwarnings("ignore")
def test_types_that_hold_no_plain_weights_are_refused_by_name(
    folder: Path, value: Callable[[torch.Tensor], torch.Tensor], says: str
) -> None:
    with pytest.raises(InputError, match=f"'{SOME}' is stored as .*{says}"):
        opened(folder, {**WEIGHTS, SOME: value(WEIGHTS[SOME])})


def test_quantized_safetensors_are_refused_by_name(folder: Path) -> None:
    save_file({**WEIGHTS, SOME: torch.zeros(32, dtype=torch.int8)}, folder / "model.safetensors")
    with pytest.raises(InputError, match=f"'{SOME}' is stored as I8"):
        check_complete(open_checkpoint(folder))


def test_mixed_floating_types_are_kept(folder: Path) -> None:
    types = [torch.float64, torch.float16, torch.bfloat16, torch.float32]
    mixed = {name: value.to(types[i % 4]) for i, (name, value) in enumerate(WEIGHTS.items())}
    read = dict(opened(folder, mixed).tensors())
    assert [value.dtype for value in read.values()] == [value.dtype for value in mixed.values()]
    assert {p.dtype for p in load(folder).parameters()} == {torch.float32}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_named_at_reading(folder: Path, value: float) -> None:
    opened(folder, {**WEIGHTS, SOME: torch.full((len(WEIGHTS[SOME]),), value)})
    with pytest.raises(InputError, match=f"NaN or an infinity, in '{SOME}'"):
        load(folder)


def test_values_that_a_smaller_type_cannot_hold_are_named(folder: Path) -> None:
    opened(folder, {**WEIGHTS, SOME: torch.full((len(WEIGHTS[SOME]),), 1e6)})
    load(folder)
    with pytest.raises(InputError, match=f"in float16.*'{SOME}'"):
        load(folder, dtype="float16")


def test_parameters_share_no_memory_whatever_the_file_does(folder: Path) -> None:
    layer = "vilt.encoder.layer.{}.attention.attention.query.weight"
    one, other = layer.format(0), layer.format(1)
    whole = torch.randn(4, *WEIGHTS[one].shape)
    tied = {**WEIGHTS, one: whole[1].T, other: whole[1].T, SOME: torch.zeros(1).expand(len(WEIGHTS[SOME]))}
    opened(folder, tied)
    model = load(folder)
    assert torch.equal(model.get_parameter(one), whole[1].T)
    with torch.no_grad():
        model.get_parameter(one).add_(1)
        model.get_parameter(SOME)[0] = 5
    assert torch.equal(model.get_parameter(other), whole[1].T)
    assert model.get_parameter(SOME)[1] == 0


def test_files_from_before_torch_1_6(folder: Path) -> None:
    content = {"state_dict": WEIGHTS, "args": argparse.Namespace(a=1)}
    assert same(opened(folder, content, _use_new_zipfile_serialization=False))


def test_an_archive_that_was_packed_again(folder: Path) -> None:
    opened(folder, WEIGHTS)
    file = folder / "pytorch_model.bin"
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(folder / "new", "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.infolist():
            new.writestr(part.filename, old.read(part))
    (folder / "new").rename(file)
    assert same(open_checkpoint(folder))


def test_the_kind_of_a_file_is_told_by_its_content(folder: Path) -> None:
    save_file(WEIGHTS, folder / "pytorch_model.bin")
    assert same(open_checkpoint(folder))
    (folder / "pytorch_model.bin").unlink()
    torch.save(WEIGHTS, folder / "model.safetensors")
    assert same(open_checkpoint(folder))


def test_shards_of_both_kinds_under_one_index(folder: Path) -> None:
    names = list(WEIGHTS)
    half = len(names) // 2
    save_file({n: WEIGHTS[n] for n in names[:half]}, folder / "a.bin")
    torch.save({n: WEIGHTS[n] for n in names[half:]}, folder / "b.bin")
    where = {name: "a.bin" if i < half else "b.bin" for i, name in enumerate(names)}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    assert same(open_checkpoint(folder))
    torch.save({n: WEIGHTS[n] for n in names[half - 1 :]}, folder / "b.bin")
    with pytest.raises(InputError, match=rf"b\.bin: holds '{names[half - 1]}', which a\.bin holds"):
        open_checkpoint(folder)


def test_states_of_a_trainer_beside_one_file_of_weights(folder: Path) -> None:
    torch.save(WEIGHTS, folder / "last.pt")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "random_states_0.bin"):
        torch.save({"state": {}}, folder / name)
    assert same(open_checkpoint(folder))


class Net(torch.nn.Linear):
    """A network of a script."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({}, "no named tensors"),
        ({"state_dict": {}}, "no named tensors"),
        ({"shadow_params": [torch.ones(2)]}, "'shadow_params' is a list of tensors"),
        ([torch.ones(2)], "holds a list"),
        (torch.ones(2), "holds a Tensor"),
        ({0: torch.ones(2), "vilt.a": torch.ones(2)}, "key 0"),
        (torch.nn.Linear(2, 2), "whole model was pickled"),
        ({"model": torch.nn.Linear(2, 2)}, "'model' is a .*whole model was pickled"),
        (Net(2, 2), "asks for '.*Net', which is code"),
    ],
    ids=str,
)
def test_what_is_no_state_dict(tmp_path: Path, content: Any, says: str) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(InputError, match=says):
        open_checkpoint(tmp_path / "a.pt")


@pytest.mark.filterwarnings("ignore")
def test_files_of_other_kinds_are_named(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "script.pt")
    torch.save(WEIGHTS, tmp_path / "new.pt", pickle_protocol=4)
    torch.save(WEIGHTS, tmp_path / "a.pt")
    (tmp_path / "gz.pt").write_bytes(gzip.compress((tmp_path / "a.pt").read_bytes()))
    np.savez(tmp_path / "arrays.npz", a=np.ones(2))
    (tmp_path / "arrays.npz").rename(tmp_path / "arrays.pt")
    (tmp_path / "page.pt").write_text("\n<!DOCTYPE html>")
    (tmp_path / "empty.pt").touch()
    for name, says in (
        ("script", "TorchScript"),
        ("new", "pickle_protocol"),
        ("gz", "gzip"),
        ("arrays", "zip archive"),
        ("page", "web page"),
        ("empty", "empty file"),
    ):
        with pytest.raises(InputError, match=says):
            open_checkpoint(tmp_path / f"{name}.pt")


def test_an_adapter_is_named(folder: Path) -> None:
    opened(folder, WEIGHTS)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="PEFT"):
        open_checkpoint(folder)


@pytest.mark.parametrize("change", [{"data_offsets": [0, 4]}, {"shape": [3]}, {"dtype": 5}, {"data_offsets": [-4, 0]}])
def test_a_header_that_contradicts_itself_is_refused_at_opening(folder: Path, change: dict[str, Any]) -> None:
    save_file({"a": torch.ones(2), "b": torch.ones(2)}, folder / "model.safetensors")
    data = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["b"] |= change
    changed = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(changed).to_bytes(8, "little") + changed + data[8 + length :])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        open_checkpoint(folder)
