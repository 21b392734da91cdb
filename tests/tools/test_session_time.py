"""tools/measure/session_time.py on the demo's model: nodes are counted with what functions hold."""

from pathlib import Path

import pytest
import session_time

from pumer_convert.convert.apply import apply
from pumer_convert.demo import CHECKPOINT, RECIPE
from pumer_convert.export.onnx import export_onnx
from pumer_convert.verification.verify import Case


def test_it_tells_of_dense_and_reduced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    apply(CHECKPOINT, RECIPE, tmp_path / "reduced")
    files = [tmp_path / "dense.onnx", tmp_path / "reduced.onnx"]
    export_onnx(CHECKPOINT, files[0], cases=(Case(1, 4),))
    export_onnx(tmp_path / "reduced", files[1], cases=(Case(1, 4),))
    (dense, none), (reduced, functions) = map(session_time.nodes, files)
    assert none == {}
    assert reduced > dense + functions["Prune"] + 2 * functions["Merge"]
    monkeypatch.setattr("sys.argv", ["session_time.py", *map(str, files), "--tries", "1"])
    session_time.main()
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{files[0]}: {dense} nodes; x1.00 of the first file's session")
    assert second.startswith(f"{files[1]}: {reduced} nodes (")
