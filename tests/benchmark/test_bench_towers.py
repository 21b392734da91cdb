"""Timing models of two towers, whose first graph takes pictures alone."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_clip
import tiny_pairs
import tiny_siglip

from pumer_convert.benchmark.bench import bench
from pumer_convert.convert.apply import apply


@pytest.mark.parametrize(
    ("family", "write", "by"),
    [
        ("clip", tiny_clip.write, "cls_attention"),
        ("siglip", tiny_siglip.write, "probe_attention"),
        ("vision-text-dual-encoder", tiny_pairs.write, "cls_attention"),
    ],
)
def test_their_pictures_are_timed_without_a_text(
    tmp_path: Path, family: str, write: Callable[[Path], Path], by: str
) -> None:
    step = f"  - {{at: vision.0-1, prune: {{image: 0.3, by: {by}}}}}\n"
    (tmp_path / "r.yaml").write_text(f"recipe: 1\nmodel: {family}\nreduce:\n{step}")
    apply(write(tmp_path / "dense"), tmp_path / "r.yaml", tmp_path / "small")
    report = bench(tmp_path / "small", batches=(2,), repeats=3, device="cpu")
    (cell,) = report.cells
    assert (report.dense, cell.batch, cell.text) == (str(tmp_path / "dense"), 2, 0)
    assert 1.1 < cell.macs < 3
