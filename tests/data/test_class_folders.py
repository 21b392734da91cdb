"""Pictures by class: folders as they lie on disks, JSON lines, a folder saved by `datasets`; and files of classes."""

import json
from pathlib import Path

import pytest
from PIL import Image

from pumer_convert.data.formats import read_samples
from pumer_convert.data.prompts import read_classes
from pumer_convert.errors import InputError


def tree(root: Path, *names: str) -> Path:
    """Pictures of one colour each under these names."""
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (20 * i, 0, 0)).save(root / name)
    return root


def test_folders_are_classes(tmp_path: Path) -> None:
    root = tree(tmp_path / "d", "cat/1.png", "cat/deep/2.JPG", "dog/3.jpeg", "dog/.hidden.png", ".git/4.png")
    (root / "cat" / "Thumbs.db").write_text("no picture")
    (root / "readme.txt").write_text("a note")
    found = read_samples(root, "zero_shot")
    assert found.format == "class-folders"
    assert [(s.id, s.target, s.text) for s in found.samples] == [
        ("cat/1.png", "cat", ""),
        ("cat/deep/2.JPG", "cat", ""),
        ("dog/3.jpeg", "dog", ""),
    ]


def test_folders_of_splits_are_asked_for_one(tmp_path: Path) -> None:
    root = tree(tmp_path / "d", "train/cat/1.png", "val/cat/2.png", "val/dog/3.png")
    assert [s.id for s in read_samples(root, "zero_shot", split="val").samples] == ["cat/2.png", "dog/3.png"]
    with pytest.raises(InputError, match="say which split; it has train, val"):
        read_samples(root, "zero_shot")
    with pytest.raises(InputError, match=r"there is no split 'vall'; it has train, val\. Did you mean 'val'\?"):
        read_samples(root, "zero_shot", split="vall")
    with pytest.raises(InputError, match="there is no split 'val'; its folders are classes, of no split"):
        read_samples(tree(tmp_path / "e", "cat/1.png", "dog/2.png"), "zero_shot", split="val")


def test_what_is_wrong_with_a_folder_is_told(tmp_path: Path) -> None:
    root = tree(tmp_path / "d", "cat/1.png", "dog/2.png")
    (root / "empty").mkdir()
    (root / "dog" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(InputError, match=r"broken\.png"):
        read_samples(root, "zero_shot")
    found = read_samples(root, "zero_shot", on_error="skip")
    assert [s.id for s in found.samples] == ["cat/1.png", "dog/2.png"]
    assert len(found.skipped) == 2
    with pytest.raises(InputError, match="which is for zero_shot, not for retrieval"):
        read_samples(root, "retrieval")
    with pytest.raises(InputError, match="leave the folder of pictures out"):
        read_samples(root, "zero_shot", images=root)
    with pytest.raises(InputError, match=r"no format that is read here \(a folder with cat\)"):
        read_samples(tree(tmp_path / "one", "cat/1.png"), "zero_shot")


def test_lines_name_a_class(tmp_path: Path) -> None:
    tree(tmp_path, "1.png", "2.png")
    rows = [{"image": "1.png", "label": "cat"}, {"image": "2.png", "class": " dog "}, {"image": "2.png", "label": 3}]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_samples(tmp_path / "d.jsonl", "zero_shot").samples
    assert [(s.id, s.target) for s in found] == [("1", "cat"), ("2", "dog"), ("3", "3")]
    (tmp_path / "d.jsonl").write_text('{"image": "1.png", "label": "cat"}\n{"image": "2.png"}\n')
    with pytest.raises(InputError, match=r"d\.jsonl:2: the field 'label' is missing"):
        read_samples(tmp_path / "d.jsonl", "zero_shot")


def test_columns_of_datasets_name_a_class(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    pictures = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    datasets.Dataset.from_dict({"image": pictures, "label": [1, 0]}, features).save_to_disk(tmp_path / "saved")
    found = read_samples(tmp_path / "saved", "zero_shot").samples
    assert [s.target for s in found] == ["dog", "cat"]
    assert found[0].pictures[0].open().getpixel((0, 0)) == (255, 0, 0)


def test_a_file_of_classes(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_bytes("\ufeffn01\ttabby cat\n\n a photo of a {}.\ndog\na {}!\n".encode())
    found = read_classes(file)
    assert found.names == {"n01": "tabby cat", "dog": "dog"}
    assert found.templates == ("a photo of a {}.", "a {}!")
    file.write_text("cat\ndog\n")
    assert read_classes(file).templates == ("{}",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "there is no name of a class in it"),
        (b"a {}\n", "there is no name of a class in it"),
        (b"cat\ndog\ncat\n", "the class 'cat' is there twice"),
        (b"a\tcat\nb\tcat\n", "the label 'cat' is given twice"),
        (b"\xff\xfe", "not readable as UTF-8 text"),
    ],
)
def test_what_is_no_file_of_classes_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(InputError, match=rf"classes\.txt: {message}") as refused:
        read_classes(tmp_path / "classes.txt")
    assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match=r"none\.txt: not readable"):
        read_classes(tmp_path / "none.txt")
