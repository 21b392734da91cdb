"""Shards of webdataset: as img2dataset and CLIP's benchmark pack them, and what is wrong with them."""

import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image

from pumer_convert.data.formats import embedded_task, read_samples
from pumer_convert.data.sample import ShardPicture
from pumer_convert.errors import InputError


def picture(colour: str, kind: str = "PNG") -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (9, 7), colour).save(made, kind)
    return made.getvalue()


def shard(path: Path, files: dict[str, bytes | str], mode: Literal["w", "w:gz"] = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as made:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return path


def test_what_img2dataset_writes(tmp_path: Path) -> None:
    for number, colour in enumerate(("red", "blue")):
        told = {"caption": f"a {colour} square", "url": "https://x.org/a.jpg", "key": f"0000{number}0000"}
        files = {f"0000{number}0000.{end}": picture(colour, "JPEG") for end in ("jpg",)}
        files |= {f"0000{number}0000.json": json.dumps(told), f"0000{number}0000.txt": told["caption"]}
        shard(tmp_path / "d" / f"0000{number}.tar", files)
        (tmp_path / "d" / f"0000{number}_stats.json").write_text("{}")
    assert embedded_task(tmp_path / "d") == "retrieval"
    found = read_samples(tmp_path / "d", "retrieval")
    assert found.format == "webdataset"
    assert [(s.id, s.text) for s in found.samples] == [("000000000", "a red square"), ("000010000", "a blue square")]
    assert len({s.target for s in found.samples}) == 2
    again = pickle.loads(pickle.dumps(found.samples[1].pictures[0]))
    assert again.open().size == (9, 7)
    assert again.open().getpixel((4, 4))[2] > 200
    alone = read_samples(tmp_path / "d" / "00000.tar", "pictures", check="decode")
    assert [s.id for s in alone.samples] == ["000000000"]


def test_a_json_holds_the_caption_where_no_text_does(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", {"./1.png": picture("red"), "./1.json": '{"caption": "red"}'})
    assert [s.text for s in read_samples(path, "retrieval").samples] == ["red"]
    path = shard(tmp_path / "b.tar", {"1.png": picture("red"), "1.json": "{"})
    with pytest.raises(InputError, match=r"b\.tar:1: its \.json is not valid JSON"):
        read_samples(path, "retrieval")


def test_what_the_benchmark_of_clip_has(tmp_path: Path) -> None:
    root = tmp_path / "wds"
    files: dict[str, bytes | str] = {}
    for number, (colour, label) in enumerate([("red", "1"), ("blue", "0"), ("green", "1\n")]):
        files |= {f"s{number}.cls": label, f"s{number}.webp": picture(colour, "WEBP")}
    shard(root / "test" / "0.tar", files)
    shard(root / "train" / "0.tar", {"s0.cls": "0", "s0.webp": picture("red", "WEBP")})
    (root / "classnames.txt").write_text("a cat\na dog\n")
    for place, split in ((root, "test"), (root / "test", None), (root / "test" / "0.tar", None)):
        found = read_samples(place, "zero_shot", split=split).samples
        assert [(s.id, s.target) for s in found] == [("s0", "a dog"), ("s1", "a cat"), ("s2", "a dog")]
    with pytest.raises(InputError, match="say which split; it has test, train"):
        read_samples(root, "zero_shot")
    with pytest.raises(InputError, match=r"there is no split 'tset'; it has test, train\. Did you mean 'test'\?"):
        read_samples(root, "zero_shot", split="tset")
    (root / "classnames.txt").write_text("a cat\n")
    with pytest.raises(InputError, match=r"0\.tar:s0: its class is 1, and classnames\.txt has 1 lines"):
        read_samples(root, "zero_shot", split="test")
    (root / "classnames.txt").write_text("crane\ncrane\n")
    with pytest.raises(InputError, match="two classes are called 'crane'"):
        read_samples(root, "zero_shot", split="test")
    (root / "classnames.txt").unlink()
    assert [s.target for s in read_samples(root, "zero_shot", split="test").samples] == ["1", "0", "1"]


def test_several_captions_are_lines(tmp_path: Path) -> None:
    files = {"a/1.jpg": picture("red", "JPEG"), "a/1.txt": "red\n\none square\n"}
    found = read_samples(shard(tmp_path / "0.tar", files), "retrieval").samples
    assert [(s.id, s.text) for s in found] == [("a/1#0", "red"), ("a/1#1", "one square")]
    assert len({s.target for s in found}) == 1


def test_names_of_shards_tell_splits(tmp_path: Path) -> None:
    for name in ("cc3m-train-0000", "cc3m-train-0001", "cc3m-validation-0000"):
        shard(tmp_path / f"{name}.tar", {f"{name}.png": picture("red")})
    assert len(read_samples(tmp_path, "pictures", split="train").samples) == 2
    with pytest.raises(InputError, match="say which split; it has train, validation"):
        read_samples(tmp_path, "pictures")
    with pytest.raises(InputError, match="there is no split '0000'; it has train, validation"):
        read_samples(tmp_path, "pictures", split="0000")


@pytest.mark.parametrize(
    ("files", "task", "message"),
    [
        ({"1.png": picture("red"), "2.txt": "blue"}, "retrieval", r"0\.tar:1: there is no caption in a \.txt or"),
        ({"1.png": picture("red"), "1.txt": " \n"}, "retrieval", r"0\.tar:1: there is no caption in a \.txt or"),
        ({"1.png": picture("red"), "1.json": '{"caption": 3}'}, "retrieval", r"0\.tar:1: the caption of its \.json"),
        ({"1.png": picture("red"), "1.json": '{"caption": " "}'}, "retrieval", r"0\.tar:1: its caption is empty"),
        ({"1.png": picture("red"), "1.cls": "\n"}, "zero_shot", r"0\.tar:1: its \.cls is empty"),
        ({"1.jpg": picture("red"), "1.png": b""}, "pictures", r"0\.tar:1: there are several pictures \(jpg, png\)"),
        ({"I.0.jpg": picture("red"), "I.1.jpg": b""}, "pictures", r"0\.tar:I: there are several pictures \(0\.jpg, 1"),
        ({"1.png": picture("red"), "1.txt": b"\xff"}, "retrieval", r"0\.tar:1: 1\.txt is not readable as UTF-8"),
        ({"1.png": picture("red"), "2.txt": "blue"}, "pictures", r"0\.tar:2: there is no picture, only txt"),
        ({"1.png": picture("red")}, "zero_shot", r"0\.tar:1: there is no \.cls with its class, only png"),
        ({"1.png": picture("red")[:45]}, "pictures", r"0\.tar:1: .*1\.png: the picture cannot be read"),
        ({"1.png": b"no picture"}, "pictures", r"1\.png: the picture cannot be read"),
    ],
)
def test_what_is_wrong_with_a_sample_is_told(
    tmp_path: Path, files: dict[str, bytes | str], task: str, message: str
) -> None:
    path = shard(tmp_path / "0.tar", {**files, "9.png": picture("red"), "9.txt": "nine", "9.cls": "9"})
    with pytest.raises(InputError, match=message):
        read_samples(path, task)
    found = read_samples(path, task, on_error="skip")
    assert found.samples[-1].id == "9"
    assert found.skipped


def test_broken_and_packed_shards_are_refused(tmp_path: Path) -> None:
    whole = shard(tmp_path / "0.tar", {"1.png": picture("red"), "2.png": picture("blue")})
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole.read_bytes()[:1600])
    with pytest.raises(InputError, match=r"cut\.tar"):
        read_samples(cut, "pictures")
    twice = tmp_path / "twice.tar"
    with tarfile.open(twice, "w") as made:
        for _ in range(2):
            info = tarfile.TarInfo("1.png")
            info.size = len(picture("red"))
            made.addfile(info, io.BytesIO(picture("red")))
    with pytest.raises(InputError, match=r"1\.png is in it twice in a row"):
        read_samples(twice, "pictures")
    for path in (
        shard(tmp_path / "0.tar.gz", {"1.png": picture("red")}, "w:gz"),
        shard(tmp_path / "z.tar", {"1.png": picture("red")}, "w:gz"),
        shard(tmp_path / "rows.tar", {"rows.jsonl": "{}"}),
    ):
        with pytest.raises(InputError, match="is packed; unpack it and name what was in it"):
            read_samples(path, "pictures")
    with pytest.raises(InputError, match="which is for retrieval or zero_shot or pictures, not for vqa"):
        read_samples(whole, "vqa")
    with pytest.raises(InputError, match="leave the folder of pictures out"):
        read_samples(whole, "pictures", images=tmp_path)
    with pytest.raises(InputError, match="Shards are given by their folder, not as a range of numbers"):
        read_samples(tmp_path / "{00000..00002}.tar", "pictures")


def test_a_shard_that_shrinks_is_told(tmp_path: Path) -> None:
    path = shard(tmp_path / "0.tar", {"1.png": picture("red")})
    found = read_samples(path, "pictures").samples[0].pictures[0]
    assert isinstance(found, ShardPicture)
    path.write_bytes(path.read_bytes()[:520])
    with pytest.raises(InputError, match=r"0\.tar:1\.png: the tar ends within it"):
        found.open()
    path.unlink()
    with pytest.raises(InputError, match=r"0\.tar:1\.png: cannot be read"):
        found.open()


def test_the_picture_is_the_plain_ending(tmp_path: Path) -> None:
    files = {"1.depth.png": picture("red"), "1.jpg": picture("blue", "JPEG"), "2.input.png": picture("red")}
    found = read_samples(shard(tmp_path / "0.tar", files), "pictures").samples
    assert [s.pictures[0].name.rpartition(":")[2] for s in found] == ["1.jpg", "2.input.png"]


def test_a_caption_of_some_lines_that_a_json_tells_whole_is_one(tmp_path: Path) -> None:
    one = {"1.png": picture("red"), "1.txt": "red\nsquare", "1.json": json.dumps({"caption": "red\nsquare"})}
    several = {"2.png": picture("red"), "2.json": json.dumps({"caption": ["red", "a square"]})}
    other = {"3.png": picture("red"), "3.txt": "", "3.json": json.dumps({"caption": "a third"})}
    path = shard(tmp_path / "0.tar", {**one, **several, **other})
    assert [s.text for s in read_samples(path, "retrieval").samples] == ["red\nsquare", "red", "a square", "a third"]
    assert embedded_task(path) == "retrieval"


def test_samples_of_one_name_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w") as made:
        for colour in ("red", "blue"):
            for name, data in (("0.png", picture(colour)), ("0.txt", colour.encode()), ("1.txt", b"x")):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                made.addfile(info, io.BytesIO(data))
    found = read_samples(path, "retrieval", on_error="skip")
    assert [s.text for s in found.samples] == ["red", "blue"]
    assert len({s.target for s in found.samples}) == len({s.pictures[0].name for s in found.samples}) == 2
    assert found.samples[1].pictures[0].open().getpixel((3, 3)) == (0, 0, 255)


@pytest.mark.parametrize("kind", ["header", "cut", "joined"])
def test_a_shard_that_ends_before_its_time_is_told(tmp_path: Path, kind: str) -> None:
    files = {f"{i}.png": picture("red") for i in range(4)}
    path = shard(tmp_path / "0.tar", files)
    data = path.read_bytes()
    with tarfile.open(path) as made:
        third = made.getmembers()[2].offset
    if kind == "header":
        data = data[:third] + b"\xff" * 512 + data[third + 512 :]
    path.write_bytes({"header": data, "cut": data[:third], "joined": data + data}[kind])
    with pytest.raises(InputError, match=r"0\.tar: cannot be read as a tar .* damaged, breaks off, or is another tar"):
        read_samples(path, "pictures")


def test_empty_and_hidden_shards_hide_no_others(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", {})
    shard(tmp_path / "1.tar", {"1.png": picture("red"), "__meta__": b"x", "__2.png": picture("red")})
    (tmp_path / "._0.tar").write_bytes(b"\x00\x05\x16\x07")
    assert [s.id for s in read_samples(tmp_path, "pictures").samples] == ["1", "__2"]


def test_splits_are_not_mixed(tmp_path: Path) -> None:
    for name in ("x-train-0", "x-held-0"):
        shard(tmp_path / "flat" / f"{name}.tar", {f"{name}.png": picture("red")})
    with pytest.raises(InputError, match="say which split; it has train, and shards of none that is known"):
        read_samples(tmp_path / "flat", "pictures")
    assert len(read_samples(tmp_path / "flat", "pictures", split="train").samples) == 1
    for part in ("part0", "part1"):
        shard(tmp_path / "parts" / part / "0.tar", {f"{part}.png": picture("red")})
    assert len(read_samples(tmp_path / "parts", "pictures").samples) == 2
    assert len(read_samples(tmp_path / "parts", "pictures", split="part1").samples) == 1
    shard(tmp_path / "parts" / "loose.tar", {"1.png": picture("red")})
    with pytest.raises(InputError, match=r"shards lie in it, such as loose\.tar, and in folders of it"):
        read_samples(tmp_path / "parts", "pictures")


def test_shards_beside_pictures_are_told(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", {"1.png": picture("red")})
    (tmp_path / "preview.png").write_bytes(picture("blue"))
    with pytest.raises(InputError, match=r"0\.tar: a tar beside pictures"):
        read_samples(tmp_path, "pictures")
