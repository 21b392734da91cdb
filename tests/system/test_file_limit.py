"""A limit on the size of files, as a shell or a scheduler sets it, is told like a full disk."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from pumer_convert.errors import InputError
from pumer_convert.system.output import output_files, output_folder

LIMIT = 2**20


@pytest.fixture
def limited() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("limited")
def test_what_is_larger_is_not_written(tmp_path: Path) -> None:
    beyond, says = bytes(2 * LIMIT), r"a file would be larger than is allowed \(`ulimit -f`"
    with pytest.raises(InputError, match=f"made: {says}"), output_folder(tmp_path / "made", overwrite=False) as folder:
        (folder / "weights").write_bytes(beyond)
    with pytest.raises(InputError, match=f"a.onnx: {says}"), output_files(tmp_path / "a.onnx", overwrite=False) as file:
        file.write_bytes(beyond)
    assert list(tmp_path.iterdir()) == []
