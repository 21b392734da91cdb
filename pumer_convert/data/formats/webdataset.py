"""Shards of the package webdataset: tar files in which what belongs to one picture has one name and several endings.

    000012.jpg    the picture
    000012.txt    its captions, one in a line; or 000012.json with "caption", one or a list. img2dataset writes the same
                  in both, and there the lines are one caption
    000012.cls    its class: a number or a word

A single tar, a folder of them, or a folder of these by split, as CLIP's benchmark has them: its classnames.txt says
what the numbers of classes mean. Pictures are read out of the tar where they lie, so it must not be compressed.
"""

import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pumer_convert.data.formats.class_folders import ENDINGS, SPLITS
from pumer_convert.data.formats.source import DataSource
from pumer_convert.data.sample import Sample, ShardPicture
from pumer_convert.errors import InputError, nearest
from pumer_convert.system.json_file import parse_value

KIND = "shards of webdataset"
TASKS = ("retrieval", "zero_shot", "pictures")
NAMES = "classnames.txt"
_MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")
"""The name that files of one sample share, and an ending, which begins at the first dot."""
_SPLITS = (*SPLITS, "training", "dev", "eval", "testing")
_LONGEST = 1 << 20
"""Bytes of a caption or class; more is none."""
_Parts = dict[str, tarfile.TarInfo]


def recognises(source: DataSource) -> bool:
    """A tar, or a folder with one in it or in a folder of it, that holds a picture among its first files."""
    if source.is_folder:
        return any(map(_holds_pictures, [*_own(source.path), *_deeper(source.path)]))
    return source.path.suffix.lower() == ".tar" and _holds_pictures(source.path)


def _holds_pictures(path: Path) -> bool:
    try:
        with tarfile.open(path, "r:") as shard:
            names = (member.name for _, member in zip(range(50), shard, strict=False))
            return any(name.lower().endswith(ENDINGS) for name in names)
    except (OSError, tarfile.TarError):
        return False


def read(source: DataSource, task: str, images: Path | None, split: str | None) -> Iterator[Sample | InputError]:
    """The samples, or what is wrong with one of them or the rest of a shard. Raises InputError for a split that is not
    there, or a folder of pictures."""
    if images is not None:
        raise InputError(f"{source.path}: its shards hold the pictures themselves; leave the folder of pictures out.")
    classes = _class_names(source.path) if task == "zero_shot" else None
    for shard in _of_split(source.path, split):
        try:
            with tarfile.open(shard, "r:") as file:
                seen: Counter[str] = Counter()
                for key, parts in _samples(file):
                    seen[key] += 1
                    name = key if seen[key] == 1 else f"{key} ({seen[key]})"  # another sample of the same name
                    try:
                        yield from list(_sample(file, shard, name, parts, task, classes))
                    except InputError as error:
                        yield error
                _check_end(file)
        except (OSError, tarfile.TarError) as error:
            yield InputError(f"{shard}: cannot be read as a tar that is not compressed ({error}).")


def _check_end(shard: tarfile.TarFile) -> None:
    """Raises TarError where the files end before the tar does, or it breaks off: tarfile just stops there."""
    assert shard.fileobj is not None
    shard.fileobj.seek(shard.offset)
    rest = shard.fileobj.read(tarfile.BLOCKSIZE)
    while rest and not rest.strip(b"\0"):
        if not (more := shard.fileobj.read(1 << 20)):
            return
        rest = more
    raise tarfile.ReadError(f"behind byte {shard.offset} it is damaged, breaks off, or is another tar")


def _own(path: Path) -> list[Path]:
    return sorted(file for file in path.glob("*.tar") if not file.name.startswith("."))


def _deeper(path: Path) -> list[Path]:
    folders = (folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    return [shard for folder in sorted(folders) for shard in _own(folder)]


def _of_split(path: Path, split: str | None) -> list[Path]:
    """The shards of a split, which is a folder or a word in their names; all where nothing names one."""
    own, deeper = (_own(path), _deeper(path)) if path.is_dir() else ([path], [])
    if own and deeper:
        raise InputError(f"{path}: shards lie in it, such as {own[0].name}, and in folders of it; name one folder.")
    folders = {shard: [shard.parent.name] for shard in deeper}
    of = folders or {shard: re.findall("[a-z0-9]+", shard.stem.lower()) for shard in own}
    told = {shard: next((word for word in words if word in _SPLITS), "") for shard, words in of.items()}
    there = {*(word for words in folders.values() for word in words), *told.values()} - {""}
    if split is None and len({*told.values()}) == 1:
        return [*of]
    has = ", ".join(sorted(there)) + ("" if all(told.values()) else ", and shards of none that is known")
    if split is None:
        raise InputError(f"{path}: say which split; it has {has}.")
    found = [shard for shard, words in of.items() if split in words]
    if split not in there or not found:
        what = f"it has {has}" if there else "the names of its shards tell of none"
        raise InputError(f"{path}: there is no split '{split}'; {what}.{nearest(split, there)}")
    return found


def _class_names(path: Path) -> list[str] | None:
    """What classes are called, by number; None where nothing says so."""
    folder = path if path.is_dir() else path.parent
    file = next((place / NAMES for place in (folder, folder.parent) if (place / NAMES).is_file()), None)
    if file is None:
        return None
    try:
        names = [line.strip() for line in file.read_text("utf-8-sig").rstrip().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not readable as UTF-8 text ({error}).") from None
    double = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if double is not None:
        raise InputError(
            f"{file}: two classes are called '{double}', so that nothing tells them apart; take the file away and give "
            "--classes with a line for each number: the number, a tab, the name."
        )
    return names


def _samples(shard: tarfile.TarFile) -> Iterator[tuple[str, _Parts]]:
    """The files that belong together, which lie one behind the other, by their endings in small letters."""
    key, parts = "", _Parts()
    for member in shard:
        found = _MEMBER.fullmatch(member.name)
        told = member.name.rpartition("/")[2]
        if found is None or not member.isfile() or (told.startswith("__") and told.endswith("__")):
            continue  # what webdataset keeps for itself has such names
        if found[1] != key and parts:
            yield key, parts
            parts = _Parts()
        key, ending = found[1], found[2].lower()
        if ending in parts:
            raise tarfile.ReadError(f"{member.name} is in it twice in a row")
        parts[ending] = member
    if parts:
        yield key, parts


def _sample(
    shard: tarfile.TarFile, path: Path, key: str, parts: _Parts, task: str, classes: list[str] | None
) -> Iterator[Sample]:
    where = f"{path}:{key}"
    pictures = [ending for ending in parts if f".{ending}".endswith(ENDINGS)]
    plain = [ending for ending in pictures if "." not in ending] or pictures
    if len(plain) != 1:
        what = f"several pictures ({', '.join(plain)})" if plain else f"no picture, only {', '.join(parts)}"
        raise InputError(f"{where}: there {'are' if plain else 'is'} {what}.")
    member = parts[plain[0]]
    if member.issparse():
        raise InputError(f"{where}: {member.name} is stored with holes in it; pack the shard anew.")
    name = f"{key}.{plain[0]}"
    picture = (ShardPicture(path, name, member.offset_data, member.size),)
    if task == "pictures":
        yield Sample(key, picture, "", None, where)
    elif task == "zero_shot":
        yield Sample(key, picture, "", _class(shard, parts, classes, where), where)
    else:
        texts = _captions(shard, parts, where)
        for i, text in enumerate(texts):
            yield Sample(key if len(texts) == 1 else f"{key}#{i}", picture, text, where, where)


def _class(shard: tarfile.TarFile, parts: _Parts, classes: list[str] | None, where: str) -> str:
    if "cls" not in parts:
        raise InputError(f"{where}: there is no .cls with its class, only {', '.join(parts)}.")
    told = _text(shard, parts["cls"], where).strip()
    if not told:
        raise InputError(f"{where}: its .cls is empty.")
    if classes is None or not told.isdecimal():
        return told
    if int(told) >= len(classes):
        raise InputError(f"{where}: its class is {told}, and {NAMES} has {len(classes)} lines, the first for 0.")
    return classes[int(told)]


def _captions(shard: tarfile.TarFile, parts: _Parts, where: str) -> list[str]:
    text = _text(shard, parts["txt"], where).strip() if "txt" in parts else ""
    told: Any = None
    if "json" in parts:
        try:
            row = parse_value(_text(shard, parts["json"], where))
            told = row.get("caption") if isinstance(row, dict) else None
        except ValueError as error:
            if not text:
                raise InputError(f"{where}: its .json is not valid JSON ({error}).") from None
    if text and not (isinstance(told, str) and told.split() == text.split()):
        told = text.split("\n")
    found = [told] if isinstance(told, str) else told
    if found is None:
        raise InputError(f"{where}: there is no caption in a .txt or .json, only {', '.join(parts)}.")
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise InputError(f"{where}: the caption of its .json is no text or list of texts.")
    found = [one.strip() for one in found if one.strip()]
    if not found:
        raise InputError(f"{where}: its caption is empty.")
    return found


def _text(shard: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> str:
    file = shard.extractfile(member)
    if file is None or member.size > _LONGEST:
        raise InputError(f"{where}: {member.name} has {member.size} bytes, which is no text of a picture.")
    try:
        return file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: {member.name} is not readable as UTF-8 text ({error}).") from None
