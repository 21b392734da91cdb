"""tools/measure/convert_cost.py on a tiny model: everything is measured, and a peak is the program's own."""

import json
import sys
from pathlib import Path

import convert_cost
import pytest
from click.testing import CliRunner


@pytest.mark.usefixtures("shallow")
def test_the_record(tmp_path: Path) -> None:
    words = [str(tmp_path / "cost.json"), "--work", str(tmp_path / "work"), "--model", "vilt", "--tiny"]
    shown = CliRunner().invoke(convert_cost.main, [*words, "--repeats", "1"], catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    report = json.loads((tmp_path / "cost.json").read_text())
    assert set(report["jobs"]) == {"help", "copy", "apply, tiny", "apply", "bare export", "export"}
    assert all(value > 0 for name, value in report["ratios"].items() if "less" not in name)
    assert shown.stdout.splitlines()[-1].startswith("--help, seconds")


def test_what_a_program_takes_is_told_and_its_failure_too() -> None:
    held = b"a" * 300_000_000  # of this process, which is not the program's
    found = convert_cost.run(sys.executable, "-S", "-c", "x = b'a' * 100_000_000")
    assert 100e6 < found["bytes"] < 280e6 < len(held)
    with pytest.raises(RuntimeError, match="exit 3"):
        convert_cost.run(sys.executable, "-S", "-c", "raise SystemExit(3)")
