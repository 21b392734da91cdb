"""What the tests of training share."""

from collections.abc import Iterator
from pathlib import Path

import lessons
import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Models this small are slower on several threads, and much slower where others use them too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def student(tmp_path: Path) -> Path:
    return lessons.reduced(lessons.dense(tmp_path / "dense"))
