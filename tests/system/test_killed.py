"""Verbs that are killed at some moment leave old or new files and no process; tools/measure/kill_verbs.py does many."""

import random
import signal
import sys
from pathlib import Path

import kill_verbs
import pytest

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),  # it is forked
]
CHOSEN = [
    ("apply", signal.SIGKILL),
    ("apply", signal.SIGTERM),
    ("export --onnx", signal.SIGKILL),
    ("evaluate --flips", signal.SIGTERM),
    ("show", signal.SIGKILL),
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    kill_verbs.preload()
    home = tmp_path_factory.mktemp("killed") / "home"
    home.mkdir()
    every = kill_verbs.verbs()
    return home, kill_verbs.prepare(home, {name: every[name] for name, _ in CHOSEN})


@pytest.mark.parametrize(("name", "number"), CHOSEN)
def test_killed_at_a_moment(prepared: tuple[Path, dict[str, float]], name: str, number: int) -> None:
    home, took = prepared
    moment = random.Random(f"{name}{number}").uniform(0.1, 0.9) * took[name]
    assert kill_verbs.kill(kill_verbs.verbs()[name], home, number, moment) in (0, -number, 128 + number)


def test_a_partial_folder_is_found(prepared: tuple[Path, dict[str, float]]) -> None:
    """The check itself can fail."""
    home, _ = prepared
    (home / ".left.png.partial-1").mkdir()
    (home / ".left.png.partial-1" / "mine").touch()
    with pytest.raises(kill_verbs.FaultError, match=r"\.left\.png\.partial-1"):
        kill_verbs.kill(kill_verbs.verbs()["show"], home, signal.SIGKILL, 0.0)
