"""speed.py and build_matrix.py on tiny models: what they write is whole and says what was asked."""

import json
from pathlib import Path

import build_matrix
import pytest
import speed
from click.testing import CliRunner


@pytest.mark.usefixtures("shallow")
def test_the_record_and_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(tmp_path / "speed.json"), "--work", str(tmp_path / "work"), "--tiny", "--repeats", "3"]
    speed.main([*words, "--runtimes", "eager", "--dtype", "float32", "--batches", "1", "2", "--only", "vilt-fast"])
    table = capsys.readouterr().out
    report = json.loads((tmp_path / "speed.json").read_text())
    assert "--only vilt-fast" in report["command"]
    (row,) = report["rows"]
    assert (row["recipe"], row["dtype"]) == ("vilt-fast", "float32")
    assert [cell["batch"] for cell in row["cells"]] == [1, 2]
    assert all(cell["memory"][0] > 0 for cell in row["cells"])
    assert len(table.splitlines()) == 2 + 2
    speed.main([str(tmp_path / "speed.json"), "--table"])
    assert capsys.readouterr().out == table
    other = ["--runtimes", "eager", "--dtype", "float32", "--batches", "1", "--only", "vilt"]
    speed.main([*words, *other])
    assert [row["recipe"] for row in json.loads((tmp_path / "speed.json").read_text())["rows"]] == ["vilt", "vilt-fast"]


@pytest.mark.usefixtures("shallow")
def test_a_recipe_in_one_engine_for_several_generations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(build_matrix, "TYPES", ("bfloat16",))
    monkeypatch.setattr(build_matrix, "TARGETS", ("8.6", "12.0"))
    words = [str(tmp_path / "builds.json"), "--only", "vilt-ve", "--no-full"]
    shown = CliRunner().invoke(build_matrix.main, words, catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    report = json.loads((tmp_path / "builds.json").read_text())
    assert report["targets"] == ["8.6", "12.0"]
    assert len(report["profiles"]) == 2
    (row,) = report["rows"]
    assert (row["recipe"], row["dtype"], row["size"]) == ("vilt-ve", "bfloat16", "tiny")
    assert row["engine_bytes"] > 10_000
