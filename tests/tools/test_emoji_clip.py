"""The small CLIP of drawings: fetched from archives, trained, reduced, taught and measured; here with ten names."""

import io
import json
import tarfile
from pathlib import Path

import emoji_clip
import emoji_data
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

NAMES = ["RED HEART", "BLUE HEART", "CAT", "DOG", "SUN", "MOON", "CAR", "BOAT", "TREE", "HOUSE"]
UNDRAWN = {"name": "UNDRAWN", "unified": "1F999"}


def archives(folder: Path) -> None:
    """The three packages as `npm pack` leaves them, with drawings of noise."""
    folder.mkdir(parents=True)
    for seed, (package, inside, ending) in enumerate(emoji_data.PACKAGES.values()):
        noise, members = np.random.default_rng(seed), {}
        for place in range(len(NAMES)):
            file = io.BytesIO()
            Image.fromarray(noise.integers(0, 256, (32, 32, 4), np.uint8)).save(file, "PNG")
            members[f"{inside}{0x1F600 + place:x}{ending}"] = file.getvalue()
        told = [{"name": name, "unified": f"{0x1F600 + place:X}-FE0F"} for place, name in enumerate(NAMES)]
        members["emoji.json"] = json.dumps([*told, UNDRAWN]).encode()
        name = package.removeprefix("@").replace("/", "-").replace("@", "-") + ".tgz"
        with tarfile.open(folder / name, "w:gz") as out:
            for member, content in members.items():
                header = tarfile.TarInfo(f"package/{member}")
                header.size = len(content)
                out.addfile(header, io.BytesIO(content))


def test_names_that_every_style_draws(tmp_path: Path) -> None:
    archives(tmp_path / "pictures")
    folder = emoji_data.fetch(tmp_path / "pictures")
    rows = {part: (folder / f"{part}.jsonl").read_text("utf-8").splitlines() for part in ("train", "test")}
    assert [len(found) for found in rows.values()] == [20, 10]
    assert {json.loads(row)["text"] for row in rows["test"]} == {name.lower() for name in NAMES}
    for row in rows["train"]:
        with Image.open(folder / json.loads(row)["image"]) as drawing:
            assert (drawing.size, drawing.mode) == ((64, 64), "RGB")
    assert len((folder / "classes.txt").read_text("utf-8").splitlines()) == len(NAMES)


def test_the_whole_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives(tmp_path / "work" / "pictures")
    monkeypatch.setattr(emoji_clip, "BATCH", 5)
    few = {name: emoji_clip.WAYS[name] for name in (emoji_clip.TAUGHT, "pictures of 48")}
    monkeypatch.setattr(emoji_clip, "WAYS", few)
    monkeypatch.setattr(emoji_clip, "TEACHING_BATCH", 4)
    words = [str(tmp_path / "out.json"), "--work", str(tmp_path / "work")]
    amounts = ["--train-epochs", "1", "--epochs", "1", "--seeds", "2"]
    result = CliRunner().invoke(emoji_clip.main, [*words, *amounts], catch_exceptions=False)
    assert result.exit_code == 0
    report = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert report["names"] == len(NAMES)
    assert [row["name"] for row in report["rows"]] == [*few, f"{emoji_clip.TAUGHT}, taught"]
    assert [len(row["scores"]) for row in report["rows"]] == [1, 1, 2]
    assert all(1.6 < row["ratio"] < 2.4 for row in report["rows"])
    again = CliRunner().invoke(emoji_clip.main, [words[0], "--table"], catch_exceptions=False)
    assert result.stdout.endswith(again.stdout)
