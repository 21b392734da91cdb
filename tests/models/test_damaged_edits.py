"""What a reduced folder's config records is replayed or refused in a sentence, whatever was done to it."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ladder
import pytest

from pumer_convert.checkpoint.read import check_complete, open_checkpoint
from pumer_convert.convert.apply import apply
from pumer_convert.errors import InputError

VALUES = (None, True, 0, -1, 3.5, 10**12, "x", "", [], [1], {}, {"a": 1})


@pytest.fixture(autouse=True, scope="module")
def toys() -> Iterator[None]:
    yield from ladder.registered()


def damaged(value: Any) -> Iterator[Any]:
    """The value with one thing in it replaced, or gone."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            without = copy.deepcopy(value)
            del without[key]
            yield without
            for inner in (*VALUES, *damaged(value[key])):
                changed = copy.deepcopy(value)
                changed[key] = inner
                yield changed


@pytest.mark.parametrize("case", [case for case in ladder.MADE if case[1] in ("vqa", "embeddings")], ids="-".join)
def test_damaged_edits_are_read_or_refused(case: tuple[str, ...], tmp_path: Path) -> None:
    source = ladder.MADE[case](tmp_path / "dense")
    apply(source, ladder.recipe(source, tmp_path / "r.yaml", 0.1, few=True), tmp_path / "out")
    file = tmp_path / "out" / "config.json"
    config, refused = json.loads(file.read_text()), list[str]()
    for pumer in damaged(config["pumer"]):
        file.write_text(json.dumps({**config, "pumer": pumer}))
        try:
            check_complete(open_checkpoint(tmp_path / "out"))
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert not [why for why in refused if "\n" in why]
