"""What is printed where the encoding of standard output has not all of it."""

import io
import sys
from pathlib import Path

import pytest
import tiny_dinov2
from pictures import picture

from pumer_convert import cli


@pytest.mark.parametrize(
    ("encoding", "name", "printed"),
    [
        ("latin-1", "Käse-\u732b.png", "Käse-\\u732b.png: 64 numbers".encode("latin-1")),
        ("utf-8", "K\udcff.png", b"K\\udcff.png: 64 numbers"),
        ("utf-8", "Käse-\u732b.png", "Käse-\u732b.png: 64 numbers".encode()),
    ],
    ids=("not in it", "no text at all", "in it"),
)
def test_a_name_that_cannot_be_printed_is_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, name: str, printed: bytes
) -> None:
    file = picture(tmp_path / name)
    tiny_dinov2.write(tmp_path / "m")
    written = io.BytesIO()
    with io.TextIOWrapper(written, encoding, write_through=True) as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr(sys, "argv", ["pumer-convert", "run", str(tmp_path / "m"), "--image", str(file)])
        cli.main()
        assert printed in written.getvalue()
