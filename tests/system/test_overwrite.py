"""--overwrite replaces what this project wrote and nothing else; without it nothing is replaced at all."""

import json
import shutil
from pathlib import Path
from typing import Any

import lessons
import pytest
import tiny

import pumer_convert
from pumer_convert.cli import cli
from pumer_convert.demo import CHECKPOINT
from pumer_convert.errors import InputError
from pumer_convert.system import output
from pumer_convert.system.json_file import read_object
from pumer_convert.system.output import check_out, output_files, output_folder
from pumer_convert.system.owned import LIST, digest, listed, strangers, write_list, write_report

PARTS = (".data", ".json")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return tiny.recipe(tmp_path / "recipe.yaml", "  - at: encoder.1\n    prune: {image: 0.1}\n")


def apply(tmp_path: Path, out: str = "out", source: Path = CHECKPOINT, **how: Any) -> Path:
    pumer_convert.apply(source, tmp_path / "recipe.yaml", tmp_path / out, **how)
    return tmp_path / out


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(says: str, tmp_path: Path, source: Path = CHECKPOINT) -> None:
    before = content(tmp_path)
    with pytest.raises(InputError, match=says):
        apply(tmp_path, source=source, overwrite=True)
    assert content(tmp_path) == before


def test_what_was_written_is_replaced(tmp_path: Path, recipe: Path) -> None:
    out = apply(tmp_path)
    assert strangers(out) == []
    recipe.write_text(recipe.read_text().replace("0.1", "0.2"))
    apply(tmp_path, overwrite=True)
    assert "0.2" in (out / "recipe.yaml").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "recipe.yaml"]


@pytest.mark.parametrize("name", ["notes.txt", "model.onnx", "photos/one.txt", "triton/report.json", ".hidden"])
def test_a_file_that_somebody_added_keeps_the_folder(tmp_path: Path, recipe: Path, name: str) -> None:
    file = apply(tmp_path) / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    refused(name, tmp_path)


def test_an_empty_folder_that_somebody_added_keeps_it_too(tmp_path: Path, recipe: Path) -> None:
    (apply(tmp_path) / "later").mkdir()
    refused("later", tmp_path)


@pytest.mark.parametrize("name", ["config.json", "recipe.yaml", "report.json", "README.md", "model.safetensors"])
def test_a_file_that_somebody_changed_keeps_it_too(tmp_path: Path, recipe: Path, name: str) -> None:
    file = apply(tmp_path) / name
    if name == "report.json":
        file.write_text(json.dumps(json.loads(file.read_text()) | {"notes": ["mine"]}))
    else:
        file.write_bytes(file.read_bytes()[:-1] + b" ")
    refused(name, tmp_path)


def test_a_file_that_somebody_removed_is_no_loss(tmp_path: Path, recipe: Path) -> None:
    (apply(tmp_path) / "README.md").unlink()
    assert (apply(tmp_path, overwrite=True) / "README.md").exists()


def test_a_report_of_another_program_proves_nothing(tmp_path: Path, recipe: Path) -> None:
    for text in ("", "[]", '{"tests": 3}', '{"files": {"a": 1}}', '{"files": []}'):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "report.json").write_text(text)
        refused("not written by pumer-convert", tmp_path)
        shutil.rmtree(tmp_path / "out")


def test_a_folder_of_before_there_were_lists(tmp_path: Path, recipe: Path) -> None:
    out = apply(tmp_path)
    report = json.loads((out / "report.json").read_text())
    del report[LIST]
    (out / "report.json").write_text(json.dumps(report))
    (out / "notes.txt").write_text("mine")
    refused("notes.txt", tmp_path)
    (out / "notes.txt").unlink()
    apply(tmp_path, overwrite=True)
    assert strangers(out) == []


def test_the_checkpoint_that_is_read_and_what_holds_it_stay(tmp_path: Path, recipe: Path) -> None:
    """Even where every file of it is ours."""
    dense = tiny.recipe(tmp_path / "none.yaml", "  []\n")
    dense.write_text("recipe: 1\nmodel: vilt\nreduce: []\n")
    pumer_convert.apply(CHECKPOINT, dense, tmp_path / "out")
    with pytest.raises(InputError, match="lies inside the checkpoint itself"):
        apply(tmp_path, source=tmp_path / "out", overwrite=True)
    before = content(tmp_path / "out")
    for given in ({"tokenizer": tmp_path / "out"}, {"source": tmp_path / "out" / "model.safetensors"}):
        with pytest.raises(InputError):
            apply(tmp_path, overwrite=True, **given)
    with pytest.raises(InputError, match=r"recipe\.yaml, which is read here"):
        pumer_convert.apply(CHECKPOINT, tmp_path / "out" / "recipe.yaml", tmp_path / "out", overwrite=True)
    assert content(tmp_path / "out") == before


def test_a_symbolic_link_is_not_followed(tmp_path: Path, recipe: Path) -> None:
    apply(tmp_path, "there")
    (tmp_path / "out").symlink_to("there")
    refused("a symbolic link", tmp_path)
    (tmp_path / "out").unlink()
    (tmp_path / "out").symlink_to("nowhere")
    refused("a symbolic link", tmp_path)


def test_a_file_in_the_folder_may_be_a_link_of_somebody(tmp_path: Path, recipe: Path) -> None:
    out = apply(tmp_path)
    shutil.move(out / "model.safetensors", tmp_path / "kept.safetensors")
    (out / "model.safetensors").symlink_to(tmp_path / "kept.safetensors")
    refused(r"model\.safetensors", tmp_path)


def test_what_comes_while_the_folder_is_written_is_not_lost(tmp_path: Path) -> None:
    for before, overwrite, says in ((False, False, "exists already"), (True, True, r"mine\.txt")):
        out = tmp_path / f"out-{before}"
        if before:
            out.mkdir()
            write_report(out, {})
        with pytest.raises(InputError, match=says):
            write_while(out, overwrite)
        assert (out / "mine.txt").read_text() == "mine"
    assert not list(tmp_path.glob(".*"))


def write_while(out: Path, overwrite: bool) -> None:
    """A folder, while somebody else writes there."""
    with output_folder(out, overwrite) as folder:
        write_report(folder, {})
        out.mkdir(exist_ok=True)
        (out / "mine.txt").write_text("mine")


def write_set(path: Path, text: str, data: bool = True, overwrite: bool = False) -> None:
    with output_files(path, overwrite, parts=PARTS) as target:
        target.write_text(text)
        if data:
            target.with_name(path.name + ".data").write_text(text)
        hashes = {file.name: digest(file) for file in target.parent.iterdir()}
        write_list(target.with_name(path.name + ".json"), {"format": 1, "onnx": {"file": path.name}}, hashes)


def test_files_that_belong_together(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_set(path, "one")
    with pytest.raises(InputError, match=r"model\.onnx: exists already; use --overwrite"):
        write_set(path, "two")
    write_set(path, "two", data=False, overwrite=True)
    assert sorted(content(tmp_path)) == ["model.onnx", "model.onnx.json"], "the weights of the earlier one are gone"
    write_set(path, "three", overwrite=True)
    for name in ("model.onnx.data", "model.onnx", "model.onnx.json"):
        was = (tmp_path / name).read_text()
        changed = was.replace("format", "fmt") if name.endswith("json") else was + " "
        (tmp_path / name).write_text(changed)
        with pytest.raises(InputError, match=f"not all is as pumer-convert wrote it: {name}"):
            write_set(path, "four", overwrite=True)
        assert (tmp_path / name).read_text() == changed
        (tmp_path / name).write_text(was)
    write_set(path, "four", overwrite=True)


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "model.onnx.json"])
def test_one_of_them_that_is_not_ours(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match="exists already; use --overwrite"):
        write_set(tmp_path / "model.onnx", "one")
    with pytest.raises(InputError, match="not written by pumer-convert"):
        write_set(tmp_path / "model.onnx", "one", overwrite=True)
    assert content(tmp_path) == {name: b"{}"}


def test_a_picture_or_list_that_is_named_is_replaced_but_no_input(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_text("mine")
    with pytest.raises(InputError, match="use --overwrite"), output_files(file, False) as target:
        target.write_text("new")
    with pytest.raises(InputError, match="is read here"), output_files(file, True, inputs=[file]) as target:
        target.write_text("new")
    assert file.read_text() == "mine"
    with output_files(file, True) as target:
        target.write_text("new")
    assert content(tmp_path) == {"a.png": b"new"}
    (tmp_path / "link.png").symlink_to(file)
    with pytest.raises(InputError, match="a symbolic link"), output_files(tmp_path / "link.png", True) as target:
        target.write_text("newer")
    assert file.read_text() == "new"


def test_a_list_knows_its_own_file(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    told = write_list(file, {"x": [0.1, "ä", None], 3: (1, 2)}, {"b": "hash"})
    assert listed(file) == {"b": "hash", "a.json": ""}
    assert json.loads(file.read_text()) == json.loads(json.dumps(told))
    file.write_text(file.read_text().replace("0.1", "0.2"))
    assert listed(file) == {"b": "hash"}


def test_outputs_of_every_verb_are_listed(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    dense = lessons.dense(tmp_path / "dense")
    out = lessons.reduced(dense)
    words = ["export", "--trt", "--triton", "--flavour", "tensorrt-rtx", "--dtype", "float32", str(out)]
    cli.main([*words, "--profile", "1:1:2,4:8:16"], standalone_mode=False)
    assert {"model.onnx", "model.engine", "triton"} <= {file.name for file in out.iterdir()}
    check_out(out, overwrite=True)
    (out / "triton" / "pumer" / "1" / "model.py").write_text("mine")
    with pytest.raises(InputError, match=r"triton/pumer/1/model\.py"):
        check_out(out, overwrite=True)


def test_of_two_writers_at_the_same_moment_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, check = tmp_path / "out", output._check_folder

    def and_then(path: Path, *how: Any) -> None:
        check(path, *how)
        if list(tmp_path.glob(".out.partial-*/new/report.json")):
            out.mkdir()
            write_report(out, {"whose": "the other's"})

    monkeypatch.setattr(output, "_check_folder", and_then)
    with pytest.raises(InputError, match="came to exist while this was written"), output_folder(out, False) as folder:
        write_report(folder, {"whose": "mine"})
    assert read_object(out / "report.json")["whose"] == "the other's"
    assert not list(tmp_path.glob(".*"))
