"""The names of answers: label number -> name exactly as config.json says, or refused; never shifted."""

import json
from pathlib import Path
from typing import Any

import pytest
import random_checkpoint
import torch
from draw_config import HEADS
from saved_vilt import save

from pumer_convert.artifact.sidecar import labels_of
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.errors import InputError
from pumer_convert.models.labels import label_map, read_labels
from pumer_convert.tasks import open_task

THREE = ["yes", "no", "3"]
ENTAILMENT = ["neutral", "ENTAILMENT", "Contradiction"]


@pytest.mark.parametrize(
    ("config", "want"),
    [
        ({"id2label": {"0": "yes", "1": "no", "2": "3"}}, THREE),
        ({"id2label": {2: "3", 0: "yes", 1: "no"}}, THREE),
        ({"id2label": {"2": "3", "00": "yes", "01": "no"}}, THREE),
        ({"id2label": {"0": "yes", "1": "no", "2": 3}}, THREE),
        ({"id2label": THREE}, THREE),
        ({"label2id": {"no": 1, "3": 2, "yes": 0}}, THREE),
        ({"label2id": {"no": "1", "3": "2", "yes": "0"}, "id2label": None}, THREE),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"no": 0, "yes": 1}}, ["no", "yes"]),
        ({"id2label": THREE, "label2id": {"LABEL_0": 0, "LABEL_1": 1}}, THREE),
        ({"id2label": THREE, "label2id": {"yes": 0, "no": 1, "3": 2}}, THREE),
        ({"id2label": ["a", "a"], "label2id": {"a": 1}}, ["a", "a"]),
        ({"id2label": {str(i): str(9 - i) for i in range(10)}}, list("9876543210")),
        ({"id2label": {"0": False, "1": True}}, ["False", "True"]),
        ({"id2label": {"0": "", "1": " "}}, ["", " "]),
        ({"id2label": {}}, None),
        ({}, None),
    ],
    ids=str,
)
def test_names_are_those_of_their_numbers(config: dict[str, Any], want: list[str] | None) -> None:
    assert read_labels(config, "m") == want


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"id2label": {"0": "yes", "2": "no"}}, "none with the number 1"),
        ({"id2label": {"1": "yes", "2": "no"}}, "none with the number 0"),
        ({"id2label": {"0": "a", "00": "b"}}, "none with the number 1"),
        ({"id2label": {"-1": "a", "0": "b"}}, "key '-1'"),
        ({"id2label": {"yes": 0}}, "key 'yes'"),
        ({"id2label": {"0.0": "yes"}}, r"key '0\.0'"),
        ({"id2label": {"": "yes"}}, "key ''"),
        ({"id2label": {"0": None}}, "name None"),
        ({"id2label": [["yes"]]}, r"name \['yes'\]"),
        ({"id2label": "yes"}, "id2label is 'yes'"),
        ({"id2label": 2}, "id2label is 2"),
        ({"label2id": {"yes": 0, "no": 2}}, "label2id has 2 labels, but none with the number 1"),
        ({"label2id": {"yes": 0, "no": 0}}, "none with the number 1"),
        ({"label2id": {"yes": None}}, "label2id gives 'yes' None"),
        ({"label2id": [1]}, r"label2id is \[1\]"),
        ({"id2label": ["yes", "no"], "label2id": {"yes": 1, "no": 0}}, "label2id gives 'yes' the number 1, id2label 0"),
        ({"id2label": ["yes"], "label2id": {"yes": 4}}, "label2id gives 'yes' the number 4"),
    ],
    ids=str,
)
def test_what_would_shift_or_lose_a_name_is_refused(config: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=f"^m: .*{says}"):
        read_labels(config, "m")
    with pytest.raises(InputError, match=says):
        open_task("vqa", config)
    if "label2id" not in config:
        with pytest.raises(InputError, match=says):
            labels_of({"task": "vqa", "labels": config["id2label"]}, Path("m"))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"id2label": {"0": "yes", "1": "no"}}, "id2label tells of 2 labels"),
        ({"id2label": ["a", "b", "c", "d"]}, "id2label tells of 4 labels"),
        ({"num_labels": 2}, "num_labels tells of 2 labels"),
        ({"label2id": {"yes": 0}}, "id2label tells of 1 labels"),
    ],
    ids=str,
)
def test_other_names_than_the_head_has_answers_are_refused(config: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=f"{says}, but the head in the weights has 3"):
        label_map(config, 3, "m")


@pytest.mark.parametrize("config", [{}, {"num_labels": 3}, {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}], ids=str)
def test_a_head_without_names_has_placeholders(config: dict[str, Any]) -> None:
    assert label_map(config, 3, "m") == {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}


def saved(folder: Path, names: list[str], **more: Any) -> Path:
    """A tiny ViLT with these answers, as transformers saves it."""
    settings = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16}
    settings |= {"image_size": 16, "patch_size": 8, "vocab_size": 40, "architectures": [HEADS[0]]}
    save({**settings, "id2label": dict(enumerate(names)), **more}, folder, 1)
    return folder


def test_a_file_of_transformers_and_neighbours_of_it(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", THREE)
    assert open_checkpoint(folder).config["id2label"] == {"0": "yes", "1": "no", "2": "3"}
    file = folder / "config.json"
    config = json.loads(file.read_text())
    for names in (["yes", "no"], [*THREE, "more"], {"0": "yes", "1": "no", "3": "3"}):
        file.write_text(json.dumps(config | {"id2label": names}))
        with pytest.raises(InputError, match="id2label"):
            open_checkpoint(folder)


def test_entailment_is_known_by_its_names_in_any_order(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(saved(tmp_path / "m", ENTAILMENT))
    task = open_task(checkpoint.task, checkpoint.config)
    assert (checkpoint.task, task.name) == ("ve", "ve")
    assert task.answers(torch.eye(3)) == ENTAILMENT
    assert task.place == {"neutral": 0, "entailment": 1, "contradiction": 2}  # type: ignore[attr-defined]


@pytest.mark.parametrize("names", [["true", "FALSE"], ["False", "True"], ["LABEL_0", "LABEL_1"]])
def test_pairs_are_true_or_false_by_name(tmp_path: Path, names: list[str]) -> None:
    pairs = {"architectures": [HEADS[1]], "num_images": 2, "modality_type_vocab_size": 3}
    checkpoint = open_checkpoint(saved(tmp_path / "m", names, **pairs))
    task = open_task(checkpoint.task, checkpoint.config)
    said = [answer.lower() for answer in task.answers(torch.eye(2))]
    assert said == (["false", "true"] if names[0] == "LABEL_0" else [name.lower() for name in names])


def test_pairs_of_other_answers_are_no_nlvr2(tmp_path: Path) -> None:
    pairs = {"architectures": [HEADS[1]], "num_images": 2, "modality_type_vocab_size": 3}
    checkpoint = open_checkpoint(saved(tmp_path / "m", ["left", "right"], **pairs))
    with pytest.raises(InputError, match="left, right"):
        open_task(checkpoint.task, checkpoint.config)


def test_names_beside_weights_of_the_authors_are_obeyed(tmp_path: Path) -> None:
    folder = random_checkpoint.write(tmp_path / "p", "vilt", "published", "ve")
    assert [*open_checkpoint(folder).config["id2label"].values()] == ["contradiction", "neutral", "entailment"]
    file = folder / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"id2label": ENTAILMENT}))
    assert [*open_checkpoint(folder).config["id2label"].values()] == ENTAILMENT
    file.write_text(json.dumps(config | {"id2label": ["entailment", "neutral"]}))
    with pytest.raises(InputError, match="id2label tells of 2 labels"):
        open_checkpoint(folder)


def test_a_name_that_no_file_can_hold_is_refused() -> None:
    for config in ({"id2label": ["yes\ud800"]}, {"label2id": {"yes\ud800": 0}}):
        with pytest.raises(InputError, match=r"^m: .* is no valid Unicode"):
            read_labels(config, "m")
