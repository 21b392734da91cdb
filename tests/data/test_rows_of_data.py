"""Rows that say a thing twice, questions of GQA, and what is told of answers that a checkpoint cannot give."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pumer_convert.data.formats import read_samples
from pumer_convert.data.sample import FilePicture, Sample
from pumer_convert.errors import InputError
from pumer_convert.evaluation.evaluate import evaluate
from pumer_convert.tasks import open_task

ROW = {"image": "a.png", "text": "what", "answer": "red"}


def picture(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), "red").save(file, "JPEG" if file.suffix == ".jpg" else "PNG")
    return file


def rows(file: Path, *given: dict[str, Any]) -> Path:
    picture(file.with_name("a.png"))
    file.write_text("".join(json.dumps({**ROW, **row}) + "\n" for row in given))
    return file


def test_a_name_that_stands_twice_in_a_row(tmp_path: Path) -> None:
    file = rows(tmp_path / "d.jsonl", {})
    file.write_text(file.read_text() + '{"image": "a.png", "text": "what", "text": "who", "answer": "red"}\n')
    with pytest.raises(InputError, match=r"d\.jsonl:2: .*'text' stands there twice with different values"):
        read_samples(file, "vqa")
    assert len(read_samples(file, "vqa", on_error="skip").samples) == 1
    (tmp_path / "d.json").write_text('[\n{"image": "a.png", "text": "what", "answer": "red", "answer": "blue"}\n]')
    with pytest.raises(InputError, match="'answer' stands there twice"):
        read_samples(tmp_path / "d.json", "vqa")


def test_a_row_nested_too_deeply(tmp_path: Path) -> None:
    file = rows(tmp_path / "d.jsonl", {})
    file.write_text(file.read_text() + "[" * 200_000 + "\n")
    with pytest.raises(InputError, match=r"d\.jsonl:2: not valid JSON \(nested too deeply\)"):
        read_samples(file, "vqa")


def test_a_null_is_a_field_that_is_left_out(tmp_path: Path) -> None:
    file = rows(tmp_path / "d.jsonl", {"id": None, "split": None, "answers": None}, {"split": "val"})
    assert [sample.id for sample in read_samples(file, "vqa", split="val").samples] == ["1", "2"]
    with pytest.raises(InputError, match="its rows name no split"):
        read_samples(rows(tmp_path / "e.jsonl", {"split": None}), "vqa", split="val")


def test_the_text_is_what_the_task_calls_so(tmp_path: Path) -> None:
    mixed = {"text": None, "caption": "a cat", "question": "what is it"}
    file = rows(tmp_path / "d.jsonl", mixed)
    assert [read_samples(file, task).samples[0].text for task in ("vqa", "retrieval")] == ["what is it", "a cat"]
    with pytest.raises(InputError, match=r":1: the fields 'text' and 'question' differ"):
        read_samples(rows(tmp_path / "e.jsonl", {"question": "who"}), "vqa")
    assert read_samples(rows(tmp_path / "f.jsonl", {"question": "what"}), "vqa").samples[0].text == "what"


def test_ids_that_are_not_unique_are_told(tmp_path: Path) -> None:
    file = rows(tmp_path / "d.jsonl", {"id": 1}, {"id": 2}, {"id": 1})
    (note,) = read_samples(file, "vqa").notes
    assert note == f"1 sample(s) have the id of another ('1' at {file}:1 and {file}:3); every one counts."
    assert read_samples(rows(tmp_path / "e.jsonl", {}, {}), "vqa").notes == []


def test_a_question_that_is_annotated_twice(tmp_path: Path) -> None:
    picture(tmp_path / "val2014" / "COCO_val2014_000000000042.jpg")
    question = {"question_id": "1", "image_id": "42", "question": "what is it?"}  # as some tools write numbers
    answers = [{"question_id": 1, "answers": [{"answer": word}]} for word in ("red", "red", "blue")]
    (tmp_path / "v2_OpenEnded_mscoco_val2014_questions.json").write_text(
        json.dumps({"data_subtype": "val2014", "questions": [question]})
    )
    told = tmp_path / "v2_mscoco_val2014_annotations.json"
    told.write_text(json.dumps({"annotations": answers[:2]}))
    assert read_samples(tmp_path, "vqa").samples[0].target == ("red",)
    told.write_text(json.dumps({"annotations": answers}))
    with pytest.raises(InputError, match=r"annotations\[2\]: question 1 is annotated twice, with different answers"):
        read_samples(tmp_path, "vqa")


def test_questions_of_gqa(tmp_path: Path) -> None:
    there = picture(tmp_path / "images" / "n7.jpg")
    question = {"imageId": "n7", "question": "Is it red?", "answer": "yes", "isBalanced": True}
    file = tmp_path / "testdev_balanced_questions.json"
    file.write_text(json.dumps({"201": question, "202": {"imageId": "n7", "question": "What?"}}))
    found = read_samples(file, "vqa")
    assert found.format == "gqa"
    assert [(s.id, s.text, s.target, s.pictures[0].name) for s in found.samples] == [
        ("201", "Is it red?", ("yes",), str(there)),
        ("202", "What?", (), str(there)),
    ]
    with pytest.raises(InputError, match="a file for each split; give that of 'val'"):
        read_samples(file, "vqa", split="val")
    file.write_text(json.dumps({"201": question, "202": {**question, "imageId": "n8"}}))
    with pytest.raises(InputError, match=r"questions\.json:202: there is no picture n8\.jpg"):
        read_samples(file, "vqa")


def test_captions_of_coco(tmp_path: Path) -> None:
    there = picture(tmp_path / "val2017" / "000000000042.jpg")
    rows = [{"image_id": 42, "id": 7, "caption": "a cat \n"}, {"image_id": 42, "id": 8, "caption": "a dog"}]
    file = tmp_path / "annotations" / "captions_val2017.json"
    file.parent.mkdir()
    document = {"info": {}, "images": [{"id": 42, "file_name": there.name}], "annotations": rows}
    file.write_text(json.dumps(document))
    found = read_samples(file, "retrieval")
    assert found.format == "coco"
    assert [(s.id, s.text, s.target, s.pictures[0].name) for s in found.samples] == [
        ("7", "a cat", "42", str(there)),
        ("8", "a dog", "42", str(there)),
    ]
    with pytest.raises(InputError, match=r"for each split; give that of 'train'"):
        read_samples(file, "retrieval", split="train")
    with pytest.raises(InputError, match=r"a file, and no folder of pictures; unpack it"):
        read_samples(file, "retrieval", images=file)
    file.write_text(json.dumps({**document, "images": []}))
    with pytest.raises(InputError, match=r"annotations\[0\]: there is no image 42 in the document"):
        read_samples(file, "retrieval")


def test_tables_in_a_folder_are_told_of(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-00000-of-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"parquet is a table, .*`datasets` and give the folder of save_to_disk"):
        read_samples(tmp_path, "vqa")
    (tmp_path / "d.jsonl").write_text(json.dumps(ROW, indent=1))
    with pytest.raises(InputError, match=r"no format that is read here \(.*d\.jsonl:1: not valid JSON"):
        read_samples(tmp_path / "d.jsonl", "vqa")


def test_answers_that_the_checkpoint_cannot_give_are_counted(tmp_path: Path) -> None:
    import lessons

    model = lessons.dense(tmp_path / "model")
    file = rows(tmp_path / "d.jsonl", {"answers": ["Red.", "purple"]}, {"answer": "purple"}, {"answers": {}})
    assert any("2 of 3 samples have no answer among the 5" in note for note in evaluate(model, file).notes)
    task = open_task("ve", {"id2label": ["contradiction", "neutral", "entailment"]})
    assert task.unanswerable([Sample("1", (FilePicture(tmp_path / "a.png"),), "a", "neutral", "d:1")]) == ""
    own = rows(tmp_path / "e.jsonl", {})
    assert not any("no answer" in note for note in evaluate(model, own).notes)
