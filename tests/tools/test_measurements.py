"""The tables of tools/measure/README.md are those that the tools make of the committed records."""

import json
from pathlib import Path
from types import ModuleType

import accuracy
import emoji_clip
import equal_cost
import feature_fidelity
import growth
import pytest
import speed
import tiny_vlm

MEASURE = Path(__file__).parents[2] / "tools" / "measure"
TOOLS = (accuracy, emoji_clip, equal_cost, feature_fidelity, growth, speed, tiny_vlm)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
def test_a_table_is_the_records(tool: ModuleType) -> None:
    record = json.loads((MEASURE / "measured" / f"{tool.__name__}.json").read_text("utf-8"))
    page = (MEASURE / "README.md").read_text("utf-8").splitlines()
    lines = [line for line in tool.table(record).splitlines() if line.startswith("|")]
    assert len(lines) > 3
    assert [line for line in lines if line not in page] == []
