"""What fuzz_readers.py tries: small files as the libraries of origin write them, how they are broken, and read."""

import io
import json
import random
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 7, 10**6, 2**31, 2**63, 10**30, 0.5, -1.5, 1e300, "", "a", "é", "\ud800", "1",
    "vilt", "x" * 10_000, [], [0], [[]], [None], {}, {"a": None}, {"0": "a"}, {"height": 0, "width": -1},
    "NaN", "../x", "/",
)  # fmt: skip
BYTES = (
    b"",
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\0" * 8,
    b"{",
    b"}",
    b'"',
    b"\n",
    b"PK\x03\x04",
    b"\x80\x02",
    b"9" * 30,
)


@dataclass(frozen=True)
class Reader:
    """`make` writes whole files to a folder; `damage` breaks some of them; `read` reads the folder."""

    make: Callable[[Path], None]
    damage: Callable[[Path, random.Random], None]
    read: Callable[[Path], None]


def broken(data: bytes, chance: random.Random) -> bytes:
    """`data` with some bytes changed, put in, taken out or doubled."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        place = chance.randrange(min(len(found), chance.choice((16, 400, len(found) + 1))) + 1)
        length = chance.choice((1, 1, 4, 30, 300))
        kind = chance.randrange(6)
        if kind == 0 and place < len(found):
            found[place] = chance.randrange(256)
        elif kind == 1 and place < len(found):
            found[place] ^= 1 << chance.randrange(8)
        elif kind == 2:
            found[place:place] = chance.choice(BYTES)
        elif kind == 3:
            del found[place : place + length]
        elif kind == 4:
            found[place:place] = found[place : place + length]
        elif chance.random() < 0.3:
            del found[place:]
    return bytes(found)


def changed(value: Any, chance: random.Random) -> Any:
    """A value of JSON with one part of it, at any depth, replaced, taken out or put elsewhere."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        found, key = dict(value), chance.choice(list(value))
        kind = chance.random()
        if kind < 0.1:
            del found[key]
        elif kind < 0.15:
            found[chance.choice(list(value))] = value[key]
        elif kind < 0.2:
            found[chance.choice(("", "1", "é", key + "x"))] = value[key]
        else:
            found[key] = changed(value[key], chance)
        return found
    if isinstance(value, list) and value and chance.random() < 0.85:
        items, place = list(value), chance.randrange(len(value))
        if chance.random() < 0.2:
            del items[place]
        elif chance.random() < 0.2:
            items.insert(place, chance.choice(ODD))
        else:
            items[place] = changed(items[place], chance)
        return items
    if isinstance(value, int | float) and not isinstance(value, bool) and chance.random() < 0.4:
        return chance.choice((value + 1, value - 1, value * 2, -value, value / 2, str(value), [value, value]))
    return chance.choice(ODD)


def break_bytes(name: str) -> Callable[[Path, random.Random], None]:
    """Breaks the bytes of a file."""

    def damage(folder: Path, chance: random.Random) -> None:
        file = folder / name
        file.write_bytes(broken(file.read_bytes(), chance))

    return damage


def break_json(*names: str) -> Callable[[Path, random.Random], None]:
    """Breaks what a file of JSON, one of several, says; sometimes its bytes."""

    def damage(folder: Path, chance: random.Random) -> None:
        file = folder / chance.choice(names)
        if chance.random() < 0.2:
            file.write_bytes(broken(file.read_bytes(), chance))
            return
        value = json.loads(file.read_text("utf-8"))
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            value = changed(value, chance)
        file.write_text(json.dumps(value), "utf-8")

    return damage


def break_pickle(folder: Path, chance: random.Random) -> None:
    """Breaks a torch file: its bytes, or the pickle in its archive, which is packed again whole."""
    file = folder / chance.choice(("pytorch_model.bin", "legacy.bin"))
    if file.name == "legacy.bin":
        shutil.move(file, folder / "pytorch_model.bin")
        file = folder / "pytorch_model.bin"
    data = file.read_bytes()
    if chance.random() < 0.4 or not zipfile.is_zipfile(file):
        file.write_bytes(broken(data, chance))
        return
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w") as new:
        for part in old.infolist():
            content = old.read(part)
            hit = part.filename.endswith("data.pkl") or chance.random() < 0.02
            new.writestr(part.filename, broken(content, chance) if hit else content)


def break_safetensors(folder: Path, chance: random.Random) -> None:
    """Breaks the header of a file, as JSON or as bytes, or any byte."""
    file = folder / "model.safetensors"
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    if chance.random() < 0.3:
        file.write_bytes(broken(data, chance))
        return
    header = json.dumps(changed(json.loads(data[8 : 8 + length]), chance)).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])


def checkpoint(folder: Path) -> None:
    """A ViLT of two layers, as transformers saves it."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.ViltConfig(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16,
        vocab_size=40, num_labels=3,
    )  # fmt: skip
    transformers.utils.logging.disable_progress_bar()
    transformers.ViltForQuestionAnswering(config).save_pretrained(folder)
    transformers.ViltImageProcessor(size={"shortest_edge": 32}, size_divisor=16).save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", "what", "##s"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", "utf-8")


def pickled(folder: Path) -> None:
    """The same as torch saves it, in both of its formats, with what trainers put beside it."""
    import argparse
    import collections

    import torch
    from safetensors.torch import load_file

    checkpoint(folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    content = {
        "state_dict": weights,
        "hyper_parameters": argparse.Namespace(lr=0.1),
        "log": collections.defaultdict(list, a=[1]),
        "optimizer": {"state": {0: {"step": torch.ones(1)}}},
    }
    torch.save(content, folder / "pytorch_model.bin")
    torch.save(content, folder / "legacy.bin", _use_new_zipfile_serialization=False)


def sharded(folder: Path) -> None:
    """The same in two shards with an index."""
    from safetensors.torch import load_file, save_file

    checkpoint(folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    where = {name: f"model-0000{i % 2 + 1}-of-00002.safetensors" for i, name in enumerate(weights)}
    for file in set(where.values()):
        save_file({name: weights[name] for name in weights if where[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def read_model(folder: Path) -> Any:
    """Opens it, tells its plan, and loads it."""
    from pumer_convert.checkpoint.read import open_checkpoint
    from pumer_convert.convert.build import build
    from pumer_convert.convert.load import plan_of, spec_of

    found = open_checkpoint(folder)
    spec_of(found)
    plan_of(found)
    if found.parameters < 10**8:
        build(found)
    return found


def read_checkpoint(folder: Path) -> None:
    """Loads it, and its task with the names of its answers."""
    from pumer_convert.tasks import open_task

    found = read_model(folder)
    open_task(found.task, found.config)


def exported(folder: Path) -> None:
    """An ONNX file's sidecar with its tokenizer; the graph itself is not read."""
    from pumer_convert.artifact.describe import describe
    from pumer_convert.checkpoint.read import open_checkpoint

    checkpoint(folder)
    sidecar = {**describe(open_checkpoint(folder), [32, 32]), "dtype": "float32", "onnx": {"file": "model.onnx"}}
    (folder / "model.onnx.json").write_text(json.dumps(sidecar))


def read_inputs(folder: Path) -> None:
    """Makes inputs of a picture and a text by the checkpoint's files."""
    from PIL import Image

    from pumer_convert.data.preprocess import Preprocessor

    made = Preprocessor.of(folder)
    made.text(["what a", ""])
    made.pixels(Image.new("RGB", (50, 40), "red"))


def read_sidecar_of(folder: Path) -> None:
    """Makes inputs by a sidecar, and names answers."""
    from PIL import Image

    from pumer_convert.artifact.sidecar import labels_of, read_sidecar
    from pumer_convert.data.preprocess import Preprocessor

    values = read_sidecar(folder / "model.onnx")
    made = Preprocessor.of_sidecar(values, folder)
    made.text(["what a"])
    made.pixels(Image.new("RGB", (50, 40), "red"))
    labels_of(values, folder)


RECIPE = """recipe: 1
model: vilt
semantics: default
image_size: 32
reduce:
  - at: encoder.0,1
    prune: {image: 0.2}
    merge: {image: 30%, text: 2}
distill:
  epochs: 3
  learning_rate: 1e-4
export:
  dtype: float16
  profiles:
    - {batch: [1, 1, 8], text: [4, 32, 40]}
"""


def recipe(folder: Path) -> None:
    """A checkpoint and a recipe for it."""
    checkpoint(folder)
    (folder / "recipe.yaml").write_text(RECIPE, "utf-8")


def break_recipe(folder: Path, chance: random.Random) -> None:
    """Breaks a recipe's lines, its words or its bytes."""
    file = folder / "recipe.yaml"
    text = file.read_text("utf-8")
    kind = chance.random()
    if kind < 0.3:
        file.write_bytes(broken(text.encode(), chance))
        return
    if kind < 0.5:
        lines = text.splitlines()
        chance.shuffle(lines) if chance.random() < 0.3 else lines.insert(0, chance.choice(lines))
        file.write_text("\n".join(lines), "utf-8")
        return
    words = text.split(" ")
    odd = (
        "&a",
        "*a",
        "!!python/object:os.system",
        "~",
        "0x1",
        "1e999",
        ".nan",
        "[",
        "{}",
        "- -",
        "|",
        "9" * 400,
        "é",
        "on",
    )
    for _ in range(chance.choice((1, 2, 3))):
        words[chance.randrange(len(words))] = chance.choice((*odd, "9" * 400))
    file.write_text(" ".join(words), "utf-8")


def read_recipe(folder: Path) -> None:
    """Plans what the recipe asks for."""
    from pumer_convert.convert.apply import prepare_apply

    prepare_apply(folder, folder / "recipe.yaml")


KINDS = {"png": {}, "jpg": {}, "gif": {}, "bmp": {}, "webp": {}, "tiff": {"compression": "tiff_lzw"}}


def picture(folder: Path) -> None:
    """A picture in every format."""
    from PIL import Image

    for kind, how in KINDS.items():
        Image.linear_gradient("L").convert("RGB").resize((40, 30)).save(folder / f"a.{kind}", **how)


def break_picture(folder: Path, chance: random.Random) -> None:
    """Breaks one of them and takes the others away."""
    kind = chance.choice(list(KINDS))
    break_bytes(f"a.{kind}")(folder, chance)
    for file in folder.iterdir():
        if file.suffix != f".{kind}":
            file.unlink()


def read_picture(folder: Path) -> None:
    """Reads it as a data set's and as a question's."""
    from pumer_convert.data.sample import FilePicture
    from pumer_convert.image_processor.pixels import to_pixels
    from pumer_convert.image_processor.settings import image_settings

    (file,) = folder.iterdir()
    settings = image_settings({"size": {"height": 32, "width": 32}}, "ViltImageProcessor")
    to_pixels(FilePicture(file).open(), settings)


def rows(folder: Path) -> None:
    """Data in the simple formats, and a picture."""
    picture(folder)
    found = [{"image": "a.png", "text": f"what {i}?", "answer": "a", "id": i} for i in range(4)]
    (folder / "list.json").write_text(json.dumps(found))
    (folder / "lines.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    (folder / "table.csv").write_text("image,text,answer\n" + "".join(f"a.png,what {i}?,a\n" for i in range(4)))


def break_rows(folder: Path, chance: random.Random) -> None:
    """Breaks one of the files and takes the others away."""
    name = chance.choice(("list.json", "lines.jsonl", "table.csv"))
    if name == "list.json":
        break_json(name)(folder, chance)
    elif name == "lines.jsonl" and chance.random() < 0.7:
        lines = (folder / name).read_text("utf-8").splitlines()
        place = chance.randrange(len(lines))
        lines[place] = json.dumps(changed(json.loads(lines[place]), chance))
        (folder / name).write_text("\n".join(lines), "utf-8")
    else:
        break_bytes(name)(folder, chance)
    for file in ("list.json", "lines.jsonl", "table.csv"):
        if file != name:
            (folder / file).unlink()


def read_rows(folder: Path) -> None:
    """Reads the samples and their pictures."""
    from pumer_convert.data.formats import read_samples

    file = next(folder / name for name in ("list.json", "lines.jsonl", "table.csv") if (folder / name).exists())
    for sample in read_samples(file, "vqa").samples:
        for one in sample.pictures:
            one.open()


READERS = {
    "safetensors": Reader(checkpoint, break_safetensors, read_checkpoint),
    "pickle": Reader(pickled, break_pickle, read_checkpoint),
    "config": Reader(checkpoint, break_json("config.json"), read_checkpoint),
    "processor": Reader(checkpoint, break_json("preprocessor_config.json"), read_inputs),
    "index": Reader(sharded, break_json("model.safetensors.index.json"), read_checkpoint),
    "sidecar": Reader(exported, break_json("model.onnx.json"), read_sidecar_of),
    "recipe": Reader(recipe, break_recipe, read_recipe),
    "image": Reader(picture, break_picture, read_picture),
    "data": Reader(rows, break_rows, read_rows),
}
