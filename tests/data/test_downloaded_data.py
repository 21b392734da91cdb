"""Data sets as they lie on disks today: other folders, other names, rows nobody agrees on; read, or told what to do."""

import json
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from pumer_convert.cli import cli
from pumer_convert.data.formats import read_samples
from pumer_convert.demo import CHECKPOINT
from pumer_convert.errors import InputError
from pumer_convert.training.samples import training_samples


def picture(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), "red").save(file, "JPEG" if file.suffix.lower() == ".jpg" else "PNG")
    return file


def simple(file: Path, *rows: dict[str, Any], head: bytes = b"", ends: str = "\n") -> Path:
    filled = ({"image": "a.png", "text": "what", "answer": "red", **row} for row in rows)
    file.write_bytes(head + "".join(json.dumps(row, ensure_ascii=False) + ends for row in filled).encode())
    return file


def shown(path: Path, task: str = "vqa", **how: Any) -> list[Path]:
    return [Path(sample.pictures[0].name) for sample in read_samples(path, task, **how).samples]


def vqav2(folder: Path, subset: str = "val2014", answered: int = 42000) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    question = {"question_id": 42000, "image_id": 42, "question": "what is it?"}
    answers = {"question_id": answered, "image_id": 42, "answers": [{"answer": "red", "answer_id": 1}] * 10}
    for name, key, value in (
        ("OpenEnded_mscoco_{}_questions", "questions", question),
        ("mscoco_{}_annotations", "annotations", answers),
    ):
        if key == "questions" or not subset.startswith("test"):
            document = {"data_subtype": subset, key: [value]}
            (folder / f"v2_{name.format(subset)}.json").write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize(
    ("subset", "place"),
    [
        ("val2014", "val2017/000000000042.jpg"),
        ("val2014", "train2017/000000000042.jpg"),
        ("val2014", "images/val2017/000000000042.jpg"),
        ("val2014", "000000000042.jpg"),
        ("val2014", "coco/val2014/COCO_val2014_000000000042.jpg"),
        ("val2014", "coco/images/val2017/000000000042.JPG"),
        ("train2014", "train2017/000000000042.jpg"),
        ("test2015", "test2017/000000000042.jpg"),
        ("test-dev2015", "coco/test2015/COCO_test2015_000000000042.jpg"),
    ],
)
def test_cocos_folders(tmp_path: Path, subset: str, place: str) -> None:
    folder = vqav2(tmp_path / "vqa", subset)
    there = picture(folder / place)
    assert shown(folder) == [there]
    moved = tmp_path / "elsewhere"
    shutil.move(folder / Path(place).parts[0], moved / Path(place).parts[0]) if "/" in place else None
    if moved.exists():
        assert shown(folder, images=moved) == [moved / place]


def test_a_picture_of_another_set_is_not_taken(tmp_path: Path) -> None:
    folder = vqav2(tmp_path / "vqa")
    picture(folder / "test2017" / "000000000042.jpg")
    picture(folder / "other" / "000000000042.jpg")
    with pytest.raises(InputError, match=r"may be .*000000000042\.jpg or .*; name its folder"):
        read_samples(folder, "vqa")


def test_karpathys_file_without_folders(tmp_path: Path) -> None:
    row = {"filename": "COCO_val2014_000000000042.jpg", "split": "val", "sentences": [{"raw": "a cat", "sentid": 1}]}
    (tmp_path / "k.json").write_text(json.dumps({"images": [row]}))
    there = picture(tmp_path / "val2014" / row["filename"])
    assert shown(tmp_path / "k.json", "retrieval") == [there]
    there.unlink()
    there = picture(tmp_path / "val2017" / "000000000042.jpg")
    assert shown(tmp_path / "k.json", "retrieval") == [there]


@pytest.mark.parametrize("split", ["dev", "test1"])
def test_nlvr2_as_it_is_released(tmp_path: Path, split: str) -> None:
    row = {"identifier": f"{split}-850-0-1", "sentence": "Both.", "label": "True", "synset": "dog", "query": "dogs"}
    (tmp_path / f"{split}.json").write_text(json.dumps(row) + "\n")
    there = [picture(tmp_path / "nlvr2" / "images" / split / f"{split}-850-0-img{i}.png") for i in (0, 1)]
    (sample,) = read_samples(tmp_path / f"{split}.json", "nlvr2").samples
    assert [Path(p.name) for p in sample.pictures] == there


def test_names_that_other_systems_wrote(tmp_path: Path) -> None:
    there = [
        picture(tmp_path / "pictures" / "one.png"),
        picture(tmp_path / "two.JPG"),
        picture(tmp_path / "deep" / "er" / "three.png"),
        picture(tmp_path / unicodedata.normalize("NFD", "café.png")),
    ]
    names = ["pictures\\one.png", "two.jpg", "er\\three.png", unicodedata.normalize("NFC", "café.png")]
    file = simple(tmp_path / "d.jsonl", *({"image": name} for name in (*names, str(there[0]))))
    assert shown(file) == [*there, there[0]]
    with pytest.raises(InputError, match=r"there is no picture other/three\.png"):
        read_samples(simple(tmp_path / "e.jsonl", {"image": "other/three.png"}), "vqa")


MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\n\n"])
def test_marks_lines_and_wrappings(tmp_path: Path, ends: str) -> None:
    there = picture(tmp_path / "a.png")
    assert shown(simple(tmp_path / "a.jsonl", {}, {}, head=MARK, ends=ends)) == [there] * 2
    assert shown(simple(tmp_path / "b.jsonl", {}, head=MARK, ends=ends)) == [there]
    assert shown(simple(tmp_path / "b.json", {}, {}, head=MARK, ends=ends)) == [there] * 2
    row = {"image": "a.png", "text": "what", "answers": [{"answer": "red"}]}
    for name, value in (
        ("list", [row]),
        ("data", {"info": {}, "data": [row, row]}),
        ("annotations", {"annotations": [row]}),
    ):
        text = json.dumps(value, indent=2).replace("\n", ends)
        (tmp_path / f"{name}.json").write_bytes(MARK + text.encode())
        assert shown(tmp_path / f"{name}.json") == [there] * (2 if name == "data" else 1)
    (tmp_path / "bad.json").write_text(json.dumps({"data": [row, {"image": "b.png", "text": "?", "answer": "red"}]}))
    with pytest.raises(InputError, match=r"bad\.json:data\[1\]: there is no picture b\.png"):
        read_samples(tmp_path / "bad.json", "vqa")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("d.zip", b"PK", "is packed; unpack it"),
        ("d.jsonl.gz", b"\x1f\x8b", "is packed; unpack it"),
        ("d.csv", b"image,text\n", "a table, which is not read here; write its rows as JSON lines"),
        ("d.parquet", b"PAR1", "a table, which is not read here"),
        ("d.json", b'[\n{"image": "a.png", "text": "what", "answer": "red"},\n]', r"d\.json:[23]: not valid JSON"),
        ("d.jsonl", b'{"image": "a.png",}\n{"image": "a.png",}\n', r"d\.jsonl:1: not valid JSON|no format"),
        ("d.txt", b"\n  \n", "the file is empty"),
        ("d.json", '{"a": 1}'.encode("utf-16"), "not readable as UTF-8"),
    ],
)
def test_files_that_are_no_data(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says):
        read_samples(tmp_path / name, "vqa")


def test_annotations_instead_of_questions(tmp_path: Path) -> None:
    folder = vqav2(tmp_path / "vqa")
    with pytest.raises(InputError, match="answers without their questions; name the file of questions"):
        read_samples(folder / "v2_mscoco_val2014_annotations.json", "vqa")


def test_questions_beside_the_annotations_of_another_set(tmp_path: Path) -> None:
    folder = vqav2(tmp_path / "vqa", answered=7)
    picture(folder / "val2017" / "000000000042.jpg")
    with pytest.raises(InputError, match=r"questions\.json: none of its questions is answered in .*annotations\.json"):
        read_samples(folder, "vqa")


def test_rows_without_agreement_are_left_out_and_counted(tmp_path: Path) -> None:
    picture(tmp_path / "flickr30k_images" / "7.jpg")
    labels = ("neutral", "-", "Entailment", "-")
    rows = [{"pairID": str(i), "Flickr30K_ID": "7", "sentence2": "a", "gold_label": x} for i, x in enumerate(labels)]
    (tmp_path / "snli.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_samples(tmp_path / "snli.jsonl", "ve")
    assert [sample.target for sample in found.samples] == ["neutral", "entailment"]
    assert found.notes == ["2 row(s) left out for the gold_label '-', on which the annotators did not agree."]
    picture(tmp_path / "a.png")
    own = simple(tmp_path / "own.jsonl", *({"label": x} for x in labels))
    assert len(read_samples(own, "ve").samples) == 2


def test_a_question_without_answers_says_how_to_go_on(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    file = simple(tmp_path / "vizwiz.jsonl", {}, {"answers": []})
    with pytest.raises(InputError, match=r":2: .*--on-error skip leaves such samples out"):
        read_samples(file, "vqa")
    assert len(read_samples(file, "vqa", on_error="skip").samples) == 1


def call(*args: Any) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args])


def test_splits_that_no_row_names(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    file = simple(tmp_path / "d.jsonl", {}, {})
    with pytest.raises(InputError, match="its rows name no split, so there is no 'test' to take"):
        read_samples(file, "vqa", split="test")
    named = simple(tmp_path / "e.jsonl", {"split": "train"}, {"split": "val"}, {})
    assert len(read_samples(named, "vqa", split="val").samples) == 2, "a row that names none is of every split"
    with pytest.raises(InputError, match=r"no sample of split 'vall' in it; there are train, val\. Did you mean 'val'"):
        read_samples(named, "vqa", split="vall")


def test_what_is_trained_on_does_not_validate_as_another_split(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    file = simple(tmp_path / "d.jsonl", {}, {})
    named = simple(tmp_path / "e.jsonl", {"split": "train"}, {"split": "val"}, {})
    for data, says in ((file, "its rows name no split"), (named, "1 of the 2 samples to validate with are trained on")):
        options = ["--split", "train", "--validation-split", "val", "-o", tmp_path / "out"]
        result = call("distill", CHECKPOINT, "--data", data, *options)
        assert isinstance(result.exception, InputError), result.output
        assert says in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_who_names_the_same_file_for_both_is_told(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    file, said = simple(tmp_path / "d.jsonl", {}, {}), []
    train, validation = training_samples(file, "vqa", validation=file, progress=said.append)
    assert len(train) == len(validation) == 2
    assert [line.split(";")[0] for line in said] == [
        f"note: 2 of the 2 samples to validate with are trained on as well ({file}:1)"
    ]


def test_an_entailment_model_of_transformers_is_known_by_its_labels(tmp_path: Path) -> None:
    import random_checkpoint

    folder = random_checkpoint.write(tmp_path / "ve", "vilt", "sharded", "ve", depth=1)
    config = json.loads((folder / "config.json").read_text())
    del config["pumer_task"]
    config["id2label"] = {"0": "Entailment", "1": "NEUTRAL", "2": "contradiction"}
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        shutil.copy(CHECKPOINT / name, folder)
    picture(tmp_path / "flickr30k-images" / "7.jpg")
    rows = [{"pairID": x, "Flickr30K_ID": 7, "sentence2": "a", "gold_label": x} for x in ("neutral", "-")]
    (tmp_path / "snli_ve_dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = call("evaluate", folder, "--data", tmp_path / "snli_ve_dev.jsonl", "--device", "cpu")
    assert result.exit_code == 0, result.exception
    assert "ve, 1 examples" in result.output
    assert "1 row(s) left out for the gold_label '-'" in result.output
