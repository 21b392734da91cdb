"""Files to try the commands on: the embedded checkpoint, its recipe, pictures of drawn scenes, and questions."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from pumer_convert import __version__
from pumer_convert.demo import CHECKPOINT, RECIPE
from pumer_convert.demo.draw import draw
from pumer_convert.demo.questions import KINDS, Question, ask
from pumer_convert.demo.scene import Scene, make_scene
from pumer_convert.system.output import output_folder
from pumer_convert.system.owned import write_report

SCENES = {"train": 32, "validation": 8, "test": 32}
"""Scenes of each split; a question of every kind that a scene offers is asked about it."""


def write_files(folder: Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Write the demo's files to `folder`, all or none: checkpoint/, recipe.yaml, pictures/*.png of 96x96 pixels, and
    scenes.jsonl in the simple format, with a split in every row. They are the same every time. Gives the report.

    Raises InputError for a folder that exists, with `overwrite` for one that is not as it was written.
    """
    with output_folder(folder, overwrite, [CHECKPOINT, RECIPE]) as made:
        for name in ("checkpoint", "pictures"):
            (made / name).mkdir()
        for file in sorted(CHECKPOINT.iterdir()):
            shutil.copyfile(file, made / "checkpoint" / file.name)
        shutil.copyfile(RECIPE, made / "recipe.yaml")
        rows = []
        for name, split, scene, questions in _asked():
            picture = Path("pictures") / f"{name}.png"
            Image.fromarray(draw(scene)).save(made / picture)
            rows += [
                {"id": f"{name}-{q.kind}", "image": str(picture), "text": q.text, "answer": q.answer, "split": split}
                for q in questions
            ]
        (made / "scenes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        told = {"pumer_convert": __version__, "out": str(folder), "pictures": sum(SCENES.values())}
        return write_report(made, {**told, "questions": len(rows)})


def _asked() -> Iterator[tuple[str, str, Scene, list[Question]]]:
    """Name, split and scene, and what is asked about it."""
    for split, count in SCENES.items():
        for i in range(1, count + 1):
            random = Random(f"files/{split}/{i}")
            scene = make_scene(random, split)
            found = (ask(random, scene, kind) for kind in KINDS)
            yield f"{split}-{i}", split, scene, [question for question in found if question is not None]
