"""Reading every format as it is downloaded."""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from pictures import noise, picture

from pumer_convert.data.formats import FORMATS, SampleSet, read_samples
from pumer_convert.errors import InputError


def lines(file: Path, rows: Iterable[Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return file


# The originals' files, field by field.


def vqav2(folder: Path) -> Path:
    """vqa2/ with train2014, val2014 and test2015, as visualqa.org's archives unpack."""
    info = {
        "description": "This is v2.0 of the VQA dataset.",
        "year": 2017,
        "version": "2.0",
        "contributor": "VQA Team",
    }
    for split, numbers in (("train2014", (458752, 9)), ("val2014", (262148,)), ("test2015", (1,))):
        questions = []
        annotations = []
        for image in numbers:
            picture(folder / split / f"COCO_{split}_{image:012d}.jpg", image)
            questions.append({"image_id": image, "question": f"What is {image}?", "question_id": image * 1000})
            answers = [
                {"answer": "net" if i else "a net", "answer_confidence": "yes", "answer_id": i + 1} for i in range(10)
            ]
            annotations.append(
                {
                    "question_type": "what is",
                    "multiple_choice_answer": "net",
                    "answers": answers,
                    "image_id": image,
                    "answer_type": "other",
                    "question_id": image * 1000,
                }
            )
        head = {"info": info, "license": {"name": "CC"}, "data_type": "mscoco", "data_subtype": split}
        text = json.dumps({**head, "task_type": "Open-Ended", "questions": questions})
        (folder / f"v2_OpenEnded_mscoco_{split}_questions.json").write_text(text)
        if split != "test2015":
            text = json.dumps({**head, "annotations": annotations[::-1]})
            (folder / f"v2_mscoco_{split}_annotations.json").write_text(text)
    return folder


def nlvr2(folder: Path, split: str = "train") -> Path:
    """train.json with its pictures in images/train/<directory>; dev.json with dev/."""
    rows = []
    for i, label in enumerate(("True", "False")):
        identifier = f"{split}-10171-{i}-0"
        row = {"identifier": identifier, "label": label, "sentence": f"Both have {i} dogs.", "synset": "dog"}
        row |= {"left_url": "http://x/a.jpg", "right_url": "http://x/b.jpg", "writer": "7", "validation": {"3": label}}
        place = folder / split
        if split == "train":
            row["directory"] = 37 + i
            place = folder / "images" / "train" / str(37 + i)
        for side in (0, 1):
            picture(place / f"{split}-10171-{i}-img{side}.png", side)
        rows.append(row)
    return lines(folder / f"{split}.json", rows)


def snli_ve(folder: Path) -> Path:
    rows = []
    for i, label in enumerate(("neutral", "entailment", "contradiction")):
        picture(folder / "flickr30k_images" / f"470555291{i}.jpg", i)
        pair = f"470555291{i}.jpg#2r1{label[0]}"
        row = {"Flickr30K_ID": f"470555291{i}", "pairID": pair, "captionID": pair[:-3], "gold_label": label}
        row |= {"annotator_labels": [label] * 5, "sentence1": "A caption.", "sentence2": f"Hypothesis {i}."}
        rows.append(row)
    return lines(folder / "snli_ve_dev.jsonl", rows)


def karpathy(folder: Path, coco: bool = True) -> Path:
    images = []
    for i, split in enumerate(("train", "restval", "val", "test")):
        file = f"COCO_val2014_{i:012d}.jpg" if coco else f"100009279{i}.jpg"
        place = "val2014" if coco else "flickr30k_images"
        picture(folder / place / file, i)
        sentences = [
            {"raw": f"Caption {c} of {i}.", "tokens": ["caption"], "imgid": i, "sentid": 5 * i + c} for c in range(2)
        ]
        row: dict[str, Any] = {"filename": file, "split": split, "imgid": i, "sentids": [5 * i, 5 * i + 1]}
        row["sentences"] = sentences
        images.append(row | ({"filepath": place, "cocoid": i} if coco else {}))
    file = folder / f"dataset_{'coco' if coco else 'flickr30k'}.json"
    file.write_text(json.dumps({"images": images, "dataset": "coco" if coco else "flickr30k"}))
    return file


def prepared_vqa(folder: Path) -> Path:
    picture(folder / "train2014" / "COCO_train2014_000000000009.jpg")
    row = {"qid": 9000, "question": "How many cookies?", "img_id": "COCO_train2014_000000000009"}
    return lines(folder / "vqa2-train2014.jsonl", [{**row, "label": {"2": 1, "many": 0.3}, "answer_type": "number"}])


def prepared_retrieval(folder: Path) -> Path:
    picture(folder / "flickr30k_images" / "1000092795.jpg")
    return lines(
        folder / "flickr30k-test.jsonl", [{"item_id": 1000092795, "captions": ["a", "b"], "img_id": "1000092795"}]
    )


def simple(folder: Path, *rows: Any) -> Path:
    for name in ("1.png", "2.png", "3.png"):
        picture(folder / "pictures" / name, int(name[0]))
    return lines(folder / "data.jsonl", rows)


def brief(found: SampleSet) -> list[tuple[str, str, Any, list[str]]]:
    return [(s.id, s.text, s.target, [Path(p.name).name for p in s.pictures]) for s in found.samples]


def test_vqav2_folder_and_file(tmp_path: Path) -> None:
    folder = vqav2(tmp_path / "vqa2")
    found = read_samples(folder, "vqa", split="train")
    assert found.format == "vqav2"
    humans = ("a net", *["net"] * 9)
    assert brief(found) == [
        ("458752000", "What is 458752?", humans, ["COCO_train2014_000000458752.jpg"]),
        ("9000", "What is 9?", humans, ["COCO_train2014_000000000009.jpg"]),
    ]
    file = folder / "v2_OpenEnded_mscoco_val2014_questions.json"
    assert found.samples[1].where == f"{folder / 'v2_OpenEnded_mscoco_train2014_questions.json'}:questions[1]"
    assert brief(read_samples(file, "vqa")) == [
        ("262148000", "What is 262148?", humans, ["COCO_val2014_000000262148.jpg"])
    ]
    with pytest.raises(InputError, match="say which split"):
        read_samples(folder, "vqa")
    with pytest.raises(InputError, match="no questions of split 'vall'"):
        read_samples(folder, "vqa", split="vall")


def test_vqav2_test_questions_and_pictures_elsewhere(tmp_path: Path) -> None:
    folder = vqav2(tmp_path / "vqa2")
    coco = tmp_path / "coco"
    coco.mkdir()
    for split in ("train2014", "val2014", "test2015"):
        (folder / split).rename(coco / split)
    assert read_samples(folder, "vqa", split="test", images=coco).samples[0].target == ()
    assert len(read_samples(folder, "vqa", split="train", images=coco / "train2014").samples) == 2
    with pytest.raises(
        InputError, match=r"questions\[0\]: there is no picture train2014/COCO_train2014_000000458752.jpg"
    ):
        read_samples(folder, "vqa", split="train")
    (folder / "v2_mscoco_train2014_annotations.json").unlink()
    with pytest.raises(InputError, match="annotations are not beside it"):
        read_samples(folder, "vqa", split="train", images=coco)


def test_nlvr2(tmp_path: Path) -> None:
    found = read_samples(nlvr2(tmp_path), "nlvr2")
    assert found.format == "nlvr2"
    first = [f"train-10171-0-img{i}.png" for i in (0, 1)]
    assert brief(found)[0] == ("train-10171-0-0", "Both have 0 dogs.", True, first)
    assert [s.target for s in found.samples] == [True, False]
    assert found.samples[1].where == f"{tmp_path / 'train.json'}:2"
    assert len(read_samples(nlvr2(tmp_path, "dev"), "nlvr2").samples) == 2


def test_snli_ve(tmp_path: Path) -> None:
    found = read_samples(snli_ve(tmp_path), "ve")
    assert found.format == "snli-ve"
    assert brief(found)[0] == ("4705552910.jpg#2r1n", "Hypothesis 0.", "neutral", ["4705552910.jpg"])
    assert [s.target for s in found.samples] == ["neutral", "entailment", "contradiction"]


@pytest.mark.parametrize("coco", [True, False])
def test_karpathy(tmp_path: Path, coco: bool) -> None:
    file = karpathy(tmp_path, coco)
    found = read_samples(file, "retrieval", split="test")
    assert found.format == "karpathy"
    image = "COCO_val2014_000000000003.jpg" if coco else "1000092793.jpg"
    assert brief(found) == [(str(15 + c), f"Caption {c} of 3.", image, [image]) for c in range(2)]
    assert len(read_samples(file, "retrieval", split="train").samples) == 4, "restval is train's"
    assert len(read_samples(file, "retrieval").samples) == 8
    with pytest.raises(InputError, match=r"no split 'tets'; it has restval, test, train, val\. Did you mean 'test'"):
        read_samples(file, "retrieval", split="tets")


def test_prepared_by_pumer(tmp_path: Path) -> None:
    found = read_samples(prepared_vqa(tmp_path), "vqa")
    assert found.format == "pumer"
    assert brief(found) == [("9000", "How many cookies?", {"2": 1, "many": 0.3}, ["COCO_train2014_000000000009.jpg"])]
    found = read_samples(prepared_retrieval(tmp_path), "retrieval")
    assert brief(found) == [(f"1000092795#{i}", t, "1000092795", ["1000092795.jpg"]) for i, t in enumerate("ab")]
    with pytest.raises(InputError, match="not for vqa"):
        read_samples(prepared_retrieval(tmp_path), "vqa")


@pytest.mark.parametrize(
    ("task", "row", "expected"),
    [
        (
            "vqa",
            {"image": "pictures/1.png", "text": "?", "answers": ["cat", "dog"]},
            ("1", "?", ("cat", "dog"), ["1.png"]),
        ),
        (
            "vqa",
            {"id": 7, "image": "pictures/1.png", "question": "?", "answer": "cat"},
            ("7", "?", ("cat",), ["1.png"]),
        ),
        ("vqa", {"image": "pictures/1.png", "text": "?", "answers": {"a": 0.3}}, ("1", "?", {"a": 0.3}, ["1.png"])),
        (
            "nlvr2",
            {"images": ["pictures/1.png", "pictures/2.png"], "text": "t", "label": False},
            ("1", "t", False, ["1.png", "2.png"]),
        ),
        ("ve", {"image": "pictures/1.png", "text": "t", "label": "neutral"}, ("1", "t", "neutral", ["1.png"])),
        ("retrieval", {"image": "pictures/1.png", "text": "t", "image_id": 4}, ("1", "t", "4", ["1.png"])),
    ],
)
def test_simple(tmp_path: Path, task: str, row: dict[str, Any], expected: tuple[Any, ...]) -> None:
    found = read_samples(simple(tmp_path, row), task)
    assert found.format == "simple"
    assert brief(found) == [expected]


def test_simple_captions_split_and_list(tmp_path: Path) -> None:
    row = {"image": "pictures/1.png", "texts": ["a", "b"], "split": "val"}
    file = simple(tmp_path, row, {**row, "split": "train", "image": "pictures/2.png"})
    assert [(s.id, s.target) for s in read_samples(file, "retrieval", split="val").samples] == [
        ("1#0", str(tmp_path / "pictures/1.png")),
        ("1#1", str(tmp_path / "pictures/1.png")),
    ]
    listed = tmp_path / "data.json"
    listed.write_text(json.dumps([row, row], indent=1))
    assert [s.where for s in read_samples(listed, "retrieval").samples] == [f"{listed}:[{i}]" for i in (0, 0, 1, 1)]
    with pytest.raises(InputError, match="no sample of split 'test'"):
        read_samples(file, "retrieval", split="test")


def broken_after(folder: Path, bad: Any, task: str = "vqa") -> Path:
    good = {"image": "pictures/1.png", "text": "?", "answer": "cat", "label": "neutral"}
    return simple(folder, good, bad, good)


@pytest.mark.parametrize(
    ("bad", "task", "says"),
    [
        ({"image": "pictures/1.png", "answer": "cat"}, "vqa", ":2: the field 'text' is missing"),
        ({"image": "pictures/1.png", "text": "?"}, "vqa", ":2: the field 'answer' is missing"),
        (
            {"image": "pictures/1.png", "text": "?", "answers": [None]},
            "vqa",
            ":2: the field 'answers' is a list of texts",
        ),
        ({"image": "pictures/1.png", "text": "?", "answers": {"a": 7}}, "vqa", ":2: the scores of 'answers'"),
        ({"image": "pictures/1.png", "text": 3, "answer": "cat"}, "vqa", ":2: the field 'text' cannot be 3"),
        ({"text": "?", "answer": "cat"}, "vqa", ":2: the field 'image' is missing"),
        ({"image": "pictures/9.png", "text": "?", "answer": "cat"}, "vqa", ":2: there is no picture pictures/9.png"),
        ({"image": "pictures/1.png", "text": "?", "label": "maybe"}, "ve", "'maybe'"),
        ('{"image": "pictures/1.png", \n', "vqa", ":2: not valid JSON"),
        ("[1, 2]\n", "vqa", ":2: not a JSON object"),
    ],
)
def test_a_bad_row_is_named_or_skipped_and_counted(tmp_path: Path, bad: Any, task: str, says: str) -> None:
    file = broken_after(tmp_path, bad, task)
    with pytest.raises(InputError) as error:
        read_samples(file, task)
    assert says in str(error.value)
    assert str(file) in str(error.value)
    found = read_samples(file, task, on_error="skip")
    assert [s.where for s in found.samples] == [f"{file}:1", f"{file}:3"]
    assert len(found.skipped) == 1
    assert says in found.skipped[0]


@pytest.mark.parametrize("make", [nlvr2, snli_ve])
def test_a_missing_field_in_an_official_file(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    file = make(tmp_path)
    task = "nlvr2" if make is nlvr2 else "ve"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    del rows[1]["sentence" if make is nlvr2 else "sentence2"]
    lines(file, rows)
    with pytest.raises(InputError, match=f"{file.name}:2: the field 'sentence"):
        read_samples(file, task)
    assert len(read_samples(file, task, on_error="skip").skipped) == 1


def test_a_question_without_annotation(tmp_path: Path) -> None:
    folder = vqav2(tmp_path)
    file = folder / "v2_mscoco_train2014_annotations.json"
    document = json.loads(file.read_text())
    document["annotations"][0].pop("answers")
    file.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"questions\[1\]: question 9000 has no answers"):
        read_samples(folder, "vqa", split="train")
    assert len(read_samples(folder, "vqa", split="train", on_error="skip").samples) == 1


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "trailing"])
@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_a_broken_picture_is_found_at_the_start(tmp_path: Path, kind: str, damage: str) -> None:
    row = {"image": "1.png", "text": "?", "answer": "cat"}
    noise(200, 150, 1).save(tmp_path / "1.png")
    noise(200, 150, 2).save(tmp_path / f"2.{kind}")
    file = lines(tmp_path / "d.jsonl", [row, {**row, "image": f"2.{kind}"}])
    assert len(read_samples(file, "vqa").samples) == 2
    bad = tmp_path / f"2.{kind}"
    content = bad.read_bytes()
    changed = {"truncated": content[:-500], "text": b"<html>", "empty": b"", "trailing": content + bytes(500)}[damage]
    bad.write_bytes(changed)
    if damage == "trailing":  # odd, but it can be decoded
        assert len(read_samples(file, "vqa").samples) == 2
        return
    with pytest.raises(InputError, match=rf"d.jsonl:2: .*2\.{kind}: the picture cannot be read"):
        read_samples(file, "vqa")
    found = read_samples(file, "vqa", on_error="skip")
    assert len(found.samples) == len(found.skipped) == 1


def test_how_closely_pictures_are_looked_at(tmp_path: Path) -> None:
    file = simple(tmp_path, {"image": "pictures/1.png", "text": "?", "answer": "cat"})
    whole = tmp_path / "pictures" / "1.png"
    content = bytearray(whole.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)  # begins and ends as it should
    whole.write_bytes(content)
    assert len(read_samples(file, "vqa").samples) == 1
    with pytest.raises(InputError, match=r"data.jsonl:1: .*1\.png: the picture cannot be read"):
        read_samples(file, "vqa", check="decode")
    whole.write_bytes(b"")
    assert len(read_samples(file, "vqa", check="exists").samples) == 1
    with pytest.raises(InputError, match="allowed: exists, quick, decode"):
        read_samples(file, "vqa", check="closely")


def test_what_cannot_be_read_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_samples(tmp_path / "nowhere", "vqa")
    with pytest.raises(InputError, match=r"no format that is read here \(rows with a, b\)"):
        read_samples(lines(tmp_path / "x.jsonl", [{"a": 1, "b": 2}] * 2), "vqa")
    with pytest.raises(InputError, match=r"no format that is read here \(a folder with x.jsonl\)"):
        read_samples(tmp_path, "vqa")
    with pytest.raises(InputError, match="the file is empty"):
        read_samples(lines(tmp_path / "y.jsonl", []), "vqa")
    (tmp_path / "z.json").write_text('{\n"a": }')
    with pytest.raises(InputError, match=r"z.json:2: not valid JSON"):
        read_samples(tmp_path / "z.json", "vqa")
    with pytest.raises(InputError, match="which is for nlvr2, not for vqa"):
        read_samples(nlvr2(tmp_path), "vqa")
    with pytest.raises(InputError, match="on_error cannot be 'ignore'; allowed: raise, skip"):
        read_samples(tmp_path, "vqa", on_error="ignore")
    with pytest.raises(InputError, match="Did you mean 'vqa'"):
        read_samples(tmp_path, "vqaa")


def test_formats_are_all_tested() -> None:
    here = {"vqav2", "coco", "gqa", "nlvr2", "snli-ve", "karpathy", "pumer", "datasets", "simple"}
    elsewhere = {"class-folders", "pictures", "textvqa", "pope", "webdataset"}
    assert set(FORMATS) == here | elsewhere, "those are tested in files of their own"


def test_reading_data_does_not_import_torch(tmp_path: Path) -> None:
    import subprocess

    file = simple(tmp_path, {"image": "pictures/1.png", "text": "?", "answer": "cat"})
    code = "import sys; from pumer_convert.data.formats import read_samples; import pumer_convert.data.preprocess\n"
    code += f"read_samples({str(file)!r}, 'vqa')\nassert not {{'torch', 'transformers'}} & sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
