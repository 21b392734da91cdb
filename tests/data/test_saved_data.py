"""A folder saved by `datasets`: with the real package where it is installed, else with a stand-in of what is used."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pictures import noise, picture

from pumer_convert.data.formats import read_samples
from pumer_convert.errors import InputError, MissingDependencyError


class Column:
    """A feature; `names` as ClassLabel has them."""

    def __init__(self, names: list[str] | None = None) -> None:
        self.names = names


class PictureColumn(Column):
    def __init__(self, decode: bool = True) -> None:
        super().__init__()
        self.decode = decode


class Table:
    def __init__(self, rows: list[dict[str, Any]], features: dict[str, Column]) -> None:
        self.rows, self.features = rows, features
        self.column_names = list(features)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {name: self.rows[index].get(name) for name in self.column_names}

    def cast_column(self, name: str, feature: Column) -> "Table":
        assert isinstance(feature, PictureColumn)
        assert not feature.decode, "pictures are decoded by the rules of all others"
        return Table(self.rows, {**self.features, name: feature})

    def remove_columns(self, names: list[str]) -> "Table":
        return Table(self.rows, {name: f for name, f in self.features.items() if name not in names})


def saved(folder: Path, monkeypatch: pytest.MonkeyPatch, table: Table) -> Path:
    folder.mkdir()
    for file in ("dataset_info.json", "state.json"):
        (folder / file).write_text("{}")
    module = ModuleType("datasets")
    module.load_from_disk = lambda path: table  # type: ignore[attr-defined]
    module.Image = PictureColumn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return folder


def test_a_saved_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"question_id": i, "question": f"q{i}", "answers": [{"answer": "net"}] * 10, "image": noise(9, 9)}
        for i in (5, 6)
    ]
    rows.append({"question_id": 7, "answers": [], "image": None})
    features = {"question_id": Column(), "question": Column(), "answers": Column(), "image": PictureColumn()}
    folder = saved(tmp_path / "saved", monkeypatch, Table(rows, features))
    with pytest.raises(InputError, match="saved:3: the field 'text' is missing"):
        read_samples(folder, "vqa")
    found = read_samples(folder, "vqa", on_error="skip")
    assert found.format == "datasets"
    assert [(s.id, s.text, s.target) for s in found.samples] == [(str(i), f"q{i}", ("net",) * 10) for i in (5, 6)]
    assert found.samples[0].pictures[0].open().size == (9, 9)


def test_a_saved_data_set_of_pairs_and_class_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"sentence": "s", "label": 1, "image_0": noise(9, 9), "image_1": noise(8, 9)}]
    features = {"sentence": Column(), "label": Column(["False", "True"])}
    table = Table(rows, {**features, "image_0": PictureColumn(), "image_1": PictureColumn()})
    sample = read_samples(saved(tmp_path / "saved", monkeypatch, table), "nlvr2").samples[0]
    assert sample.target is True
    assert [p.open().size for p in sample.pictures] == [(9, 9), (8, 9)]


def test_a_saved_data_set_without_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(tmp_path / "saved", monkeypatch, Table([], {}))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependencyError, match="pip install datasets"):
        read_samples(folder, "vqa")


def test_a_data_set_saved_by_the_real_package(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"text": ["a", "b"], "label": ["neutral", "entailment"], "image": [str(picture(tmp_path / "1.png"))] * 2}
    data = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(tmp_path / "saved")
    found = read_samples(tmp_path / "saved", "ve", split="test")
    assert [(s.text, s.target, s.pictures[0].open().size) for s in found.samples] == [
        ("a", "neutral", (64, 48)),
        ("b", "entailment", (64, 48)),
    ]
    with pytest.raises(InputError, match="say which split; it has train, test"):
        read_samples(tmp_path / "saved", "ve")
