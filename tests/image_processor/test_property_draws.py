"""Whatever folder transformers can save of a ViLT: its answers to picture files, or a sentence that names the key."""

import os
from collections import Counter
from pathlib import Path

import draws

COUNT = int(os.environ.get("PUMER_DRAWS", "50"))
"""How many are drawn; tools/measure/property_draws.py draws more."""


def test_answers_are_those_of_transformers_or_the_key_is_named(tmp_path: Path) -> None:
    found = [draws.outcome(seed, tmp_path / str(seed)) for seed in range(COUNT)]
    assert not [one.problem for one in found if one.problem]
    refused = Counter(one.key for one in found if one.refused)
    assert refused.total() <= 0.05 * COUNT + 1, refused
