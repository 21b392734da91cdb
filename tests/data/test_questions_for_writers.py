"""TextVQA and POPE as they are downloaded."""

import json
from pathlib import Path

import pytest
from PIL import Image

from pumer_convert.data.formats import read_samples
from pumer_convert.errors import InputError


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


def textvqa(folder: Path, kind: str = "val", **changes: object) -> Path:
    """TextVQA_0.5.1_val.json, two questions long."""
    rows = [
        {
            "question": f"what is sign {number}?",
            "image_id": f"003a8ae2ef43b90{number}",
            "image_classes": ["Sign"],
            "flickr_original_url": "https://example.org/a_o.jpg",
            "flickr_300k_url": "https://example.org/a_z.jpg",
            "image_width": 1024,
            "image_height": 664,
            "answers": ["stop", "Stop"] * 5,
            "question_tokens": ["what", "is"],
            "question_id": 34602 + number,
            "set_name": kind,
            **changes,
        }
        for number in range(2)
    ]
    for row in rows:
        picture(folder / "train_images" / f"{row['image_id']}.jpg")
    file = folder / f"TextVQA_0.5.1_{kind}.json"
    whole = {"dataset_type": kind, "dataset_name": "textvqa", "dataset_version": "0.5.1", "data": rows}
    file.write_text(json.dumps(whole))
    return file


def test_textvqa(tmp_path: Path) -> None:
    found = read_samples(textvqa(tmp_path), "vqa", split="val")
    assert found.format == "textvqa"
    first, second = found.samples
    assert (first.id, second.text, first.target) == ("34602", "what is sign 1?", ("stop", "Stop") * 5)
    assert first.pictures[0].name == str(tmp_path / "train_images" / "003a8ae2ef43b900.jpg")


def test_textvqa_of_other_sets(tmp_path: Path) -> None:
    assert read_samples(textvqa(tmp_path, "test", answers=[]), "vqa").samples[0].target == ()
    with pytest.raises(InputError, match="holds test, not 'val'; TextVQA has a file for each split"):
        read_samples(tmp_path / "TextVQA_0.5.1_test.json", "vqa", split="val")
    with pytest.raises(InputError, match=r"data\[0\]: the field 'answers' is a list of texts"):
        read_samples(textvqa(tmp_path, answers="stop"), "vqa")


def pope(folder: Path, **changes: object) -> Path:
    """coco_pope_random.json, two questions long."""
    rows = [
        {
            "question_id": number,
            "image": f"COCO_val2014_00000031019{number}.jpg",
            "text": "Is there a snowboard in the image?",
            "label": label,
            **changes,
        }
        for number, label in enumerate(("yes", "no"))
    ]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "coco_pope_random.json"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


@pytest.mark.parametrize(
    "where", ["val2014/COCO_val2014_00000031019", "val2017/00000031019", "COCO_val2014_00000031019"]
)
def test_pope(where: str, tmp_path: Path) -> None:
    for number in range(2):
        picture(tmp_path / f"{where}{number}.jpg")
    found = read_samples(pope(tmp_path), "pope")
    assert found.format == "pope"
    assert [(one.id, one.target) for one in found.samples] == [("0", "yes"), ("1", "no")]
    assert found.samples[0].text == "Is there a snowboard in the image?"


def test_pope_of_other_tasks_and_labels(tmp_path: Path) -> None:
    for number in range(2):
        picture(tmp_path / "val2014" / f"COCO_val2014_00000031019{number}.jpg")
    with pytest.raises(InputError, match="POPE's own questions, which is for pope, not for vqa"):
        read_samples(pope(tmp_path), "vqa")
    lines = pope(tmp_path).read_text().replace('"no"', '"maybe"')
    (tmp_path / "coco_pope_random.json").write_text(lines)
    with pytest.raises(InputError, match="the label of pope is yes or no, not 'maybe'"):
        read_samples(tmp_path / "coco_pope_random.json", "pope")
