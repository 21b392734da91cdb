"""Small checkpoints that can be taught, and something to teach them: all tasks, both families."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import random_checkpoint
from PIL import Image

import pumer_convert
from pumer_convert.data.sample import LABELS, FilePicture, Sample
from pumer_convert.demo import CHECKPOINT

COLOURS = ("red", "green", "blue", "yellow")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")
SITES = {"vilt": "encoder.1,3", "meter": "fusion.0-1"}
DEPTH = {"vilt": 4, "meter": 2}


def dense(folder: Path, family: str = "vilt", task: str = "vqa") -> Path:
    """A tiny random checkpoint with a tokenizer; of vqa, the answers are colours."""
    random_checkpoint.write(folder, family, "sharded", task, depth=DEPTH[family], fusion=2)
    for name in TOKENIZER:
        shutil.copyfile(CHECKPOINT / name, folder / name)
    config = json.loads((folder / "config.json").read_text())
    if task == "vqa":
        config["id2label"] = dict(enumerate((*COLOURS, "none")))
    (folder / "config.json").write_text(json.dumps(config))
    if family == "meter":  # which takes pictures of one size
        side = config["image_size"]
        own = {"image_processor_type": "CLIPImageProcessor", "size": {"height": side, "width": side}}
        (folder / "preprocessor_config.json").write_text(json.dumps({**own, "do_center_crop": False}))
    return folder


def reduced(checkpoint: Path, family: str = "vilt", amount: str = "0.2") -> Path:
    """The checkpoint with reducers, beside it."""
    recipe = checkpoint.with_suffix(".yaml")
    shares = f"prune: {{image: {amount}}}, merge: {{image: {amount}, text: 0.2}}"
    recipe.write_text(f"recipe: 1\nmodel: {family}\nreduce:\n  - {{at: [{SITES[family]!r}], {shares}}}\n")
    out = checkpoint.with_name(f"{checkpoint.name}-pumer")
    pumer_convert.apply(checkpoint, recipe, out)
    return out


def pictures(folder: Path, count: int) -> list[Path]:
    """Picture files of one colour each, in turn, with some noise."""
    folder.mkdir(exist_ok=True)
    draw = random.Random(0)
    files = []
    for i in range(count):
        file = folder / f"{i}.png"
        image = Image.new("RGB", (40, 30), COLOURS[i % len(COLOURS)])
        for _ in range(60):
            image.putpixel((draw.randrange(40), draw.randrange(30)), (draw.randrange(256), 0, 0))
        image.save(file)
        files.append(file)
    return files


def samples(folder: Path, task: str = "vqa", count: int = 8) -> list[Sample]:
    """Samples whose answers follow from the colours of their pictures."""
    files = [FilePicture(file) for file in pictures(folder, count)]
    found = []
    for i, picture in enumerate(files):
        colour = COLOURS[i % len(COLOURS)]
        shown, text, target = (picture,), "what color is the circle ?", (colour,) * 10
        if task == "nlvr2":
            shown, text, target = (picture, files[(i + i // 4) % count]), "both are red", i < 4
        elif task == "ve":
            text, target = "the circle is red", LABELS[i % 3]
        elif task == "retrieval":
            text, target = f"a {colour} square", picture.name
        found.append(Sample(str(i), shown, text, target, f"made:{i}"))
    return found


def jsonl(file: Path, made: list[Sample]) -> Path:
    """Samples of vqa in the simple format."""
    rows: list[dict[str, Any]] = [
        {"id": s.id, "image": s.pictures[0].name, "text": s.text, "answer": s.target[0]} for s in made
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file
