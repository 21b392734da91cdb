"""Pictures without texts, and what data hold for a model of two towers."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pumer_convert import training_samples
from pumer_convert.data.formats import embedded_task, read_samples
from pumer_convert.errors import InputError


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name)
    return root


def lines(file: Path, *rows: dict[str, Any]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.parametrize(
    "names", [("1.png", "2.jpg"), ("1.png", "more/2.png"), ("cat/1.png", "dog/2.png"), ("a/1.png",)]
)
def test_a_folder_of_any_shape(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = tree(tmp_path / "pictures", *names)
    (root / "notes.txt").write_text("none")
    found = read_samples(root, "pictures")
    assert found.format == "pictures"
    assert [(s.id, s.text, s.target, s.pictures[0].name) for s in found.samples] == [
        (name, "", None, str(root / name)) for name in sorted(names)
    ]
    with pytest.raises(InputError, match="it holds the pictures itself; leave the folder of pictures out"):
        read_samples(root, "pictures", images=root)


def test_a_folder_of_splits(tmp_path: Path) -> None:
    root = tree(tmp_path / "pictures", "train/1.png", "train/2.png", "val/cat/3.png")
    with pytest.raises(InputError, match="say which split; it has train, val"):
        read_samples(root, "pictures")
    assert [s.id for s in read_samples(root, "pictures", split="val").samples] == ["cat/3.png"]
    train, validation = training_samples(root, "pictures", split="train", validation_split="val")
    assert (len(train), len(validation)) == (2, 1)


def test_a_broken_picture_is_told(tmp_path: Path) -> None:
    root = tree(tmp_path / "pictures", "1.png", "2.png")
    (root / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(InputError, match=r"2\.png"):
        read_samples(root, "pictures")
    assert [s.id for s in read_samples(root, "pictures", on_error="skip").samples] == ["1.png"]


def test_a_folder_of_pictures_is_for_nothing_else(tmp_path: Path) -> None:
    root = tree(tmp_path / "pictures", "1.png")
    for task in ("vqa", "retrieval", "zero_shot"):
        with pytest.raises(InputError, match=r"no format that is read here \(a folder with 1.png\)"):
            read_samples(root, task)


def test_rows_without_a_text(tmp_path: Path) -> None:
    tree(tmp_path, "1.png", "2.png")
    file = lines(tmp_path / "d.jsonl", {"image": "1.png"}, {"image": "2.png", "text": "a cat", "label": 3})
    found = read_samples(file, "pictures")
    assert [(s.id, s.text, s.target) for s in found.samples] == [("1", "", None), ("2", "", None)]
    with pytest.raises(InputError, match=r"d\.jsonl:1: the field 'text' is missing"):
        read_samples(file, "retrieval")


def test_what_data_hold(tmp_path: Path) -> None:
    tree(tmp_path, "1.png", "2.png")
    one, two = {"image": "1.png"}, {"image": "2.png"}
    forms = {
        "retrieval": [[{**one, "text": "a cat"}], [one, {**two, "caption": "a dog"}], [{**one, "texts": ["a", "b"]}]],
        "zero_shot": [[{**one, "label": "cat"}], [one, {**two, "class": "dog"}]],
        "pictures": [[one, two], [{**one, "text": None, "label": ""}]],
    }
    for task, files in forms.items():
        for rows in files:
            assert embedded_task(lines(tmp_path / "d.jsonl", *rows)) == task, rows
    # A row that lacks what others have is told of, not left silent.
    file = lines(tmp_path / "d.jsonl", one, {**two, "caption": "a dog"})
    with pytest.raises(InputError, match=r"d\.jsonl:1: the field 'text' is missing"):
        training_samples(file, "embeddings")
    assert embedded_task(tree(tmp_path / "tree", "cat/1.png", "dog/2.png")) == "zero_shot"
    assert embedded_task(tree(tmp_path / "flat", "1.png")) == "pictures"
    missing = lines(tmp_path / "d.jsonl", {"image": "none.png", "text": "a cat"})
    with pytest.raises(InputError, match=r"there is no picture none\.png"):
        training_samples(missing, "embeddings")
    with pytest.raises(InputError, match=r"no format that is read here \(rows with a\)"):
        training_samples(lines(tmp_path / "d.jsonl", {"a": 1}), "embeddings")


def test_columns_without_a_text(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    tree(tmp_path, "1.png", "2.png")
    columns = {"image": [str(tmp_path / "1.png"), str(tmp_path / "2.png")]}
    data = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    data.save_to_disk(tmp_path / "saved")
    assert embedded_task(tmp_path / "saved") == "pictures"
    assert len(read_samples(tmp_path / "saved", "pictures").samples) == 2
