"""The layout hf: a whole model with its vision part reduced, as a folder that transformers generates with."""

import importlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pumer_convert.checkpoint.locate import chosen_weights, resolve
from pumer_convert.checkpoint.origin import origin_entry, origin_of
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.errors import InputError
from pumer_convert.models.family import FAMILIES, family_of
from pumer_convert.system.json_file import read_object
from pumer_convert.system.output import output_folder
from pumer_convert.system.owned import write_report
from pumer_convert.weights import NESTED_PROCESSOR, PROCESSOR, Checkpoint

CARD = """# {name}

A {family} whose vision part gives {tokens} tokens of a picture instead of {dense}, written by pumer-convert. The
weights are those of {whole}; config.json has the reducers under "pumer", and {processor} the new count.

    import pumer_convert
    from transformers import AutoModelForImageTextToText, AutoProcessor

    pumer_convert.register()
    model, processor = (it.from_pretrained(FOLDER) for it in (AutoModelForImageTextToText, AutoProcessor))

Without the call of `register` the vision part is the dense one, {without}
"""
FEWER = """and transformers stops: its features are more than the
image tokens. With it the kept tokens have the positions that they had among all of them."""
AS_MANY = "which gives as many tokens: nothing is saved."


def export_hf(
    path: Path | str,
    out: Path | str,
    *,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Write the whole model that the reduced vision part at `path` is of to the folder `out`: its weights as hard links
    (copies on another file system), its processor with the new number of image tokens, and config.json with the
    reducers. Gives the report. Raises InputError for a model without a language model, for one whose whole is not
    there any more, and for weights that are not those of the whole.
    """
    path, out = resolve(path), Path(out)
    checkpoint = open_checkpoint(path)
    family = family_of(checkpoint.family)
    if family.generation is None:
        raise InputError(
            f"{path}: a {family.name} has no language model to generate with; the layout hf is for others."
        )
    origin = origin_of(path)
    if origin is None or origin.place is None:
        why = f"{path}: nothing says what it was made from" if origin is None else origin.why
        raise InputError(f"{why}; the layout hf needs the whole model.")
    whole = open_checkpoint(origin.place)
    _check_same(checkpoint, whole)
    (port,), (spare,) = (family.spec(one.config).graphs[0].outputs for one in (checkpoint, whole))
    tokens, dense = port.shape[1], spare.shape[1]
    assert isinstance(tokens, int)
    assert isinstance(dense, int)
    with output_folder(out, overwrite, (path, whole.path)) as folder:
        progress(f"linking the weights of {whole.path}")
        _link(whole, folder)
        for file in whole.companions:
            shutil.copyfile(file, folder / file.name)
        for name, text in whole.extra_files.items():
            (folder / name).write_text(text, "utf-8")
        config = read_object(whole.path / "config.json") | {"pumer": checkpoint.config.get("pumer", {})}
        count = importlib.import_module(family.generation).count
        changes: Mapping[str, Mapping[str, Any]] = count(checkpoint.config, tokens)
        for name in dict.fromkeys(("config.json", *changes)):
            there = read_object(folder / name) if (folder / name).exists() else {}
            if there or name != PROCESSOR:
                text = json.dumps(_changed(config if name == "config.json" else there, changes.get(name, {})), indent=2)
                (folder / name).write_text(text + "\n", "utf-8")
        told = {
            "name": out.name,
            "family": family.name,
            "tokens": tokens,
            "dense": dense,
            "whole": f"`{whole.path.name}`",
            "without": FEWER if tokens < dense else AS_MANY,
        }
        (folder / "README.md").write_text(CARD.format(**told, processor=NESTED_PROCESSOR), "utf-8")
        report = {
            "layout": "hf",
            "out": str(out),
            "source": origin_entry(whole, out),
            "vision": str(path),
            "image_tokens": tokens,
        }
        return write_report(folder, report)


def _changed(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Values with others in their place; those of a section that there is not are left out."""
    found = dict(values)
    for key, value in changes.items():
        if not isinstance(value, Mapping):
            found[key] = value
        elif isinstance(values.get(key), Mapping):
            found[key] = {**values[key], **value}
    return found


def _link(whole: Checkpoint, folder: Path) -> None:
    """Puts the files of weights into the folder, and their index."""
    index = chosen_weights(whole.path)
    for file in whole.source.files():
        try:
            os.link(file.resolve(), folder / file.name)
        except OSError:  # another file system
            shutil.copyfile(file, folder / file.name)
    if index is not None and index.suffix == ".json":
        shutil.copyfile(index, folder / index.name)


def _check_same(part: Checkpoint, whole: Checkpoint) -> None:
    """Raises InputError when the weights of a vision part are not those of the whole."""
    with whole.source.reader() as read:
        for name, own in part.tensors():
            other = read(whole.slices[name].key) if name in whole.slices else None
            if other is None or own.shape != other.shape or not bool((own == other).all()):
                raise InputError(
                    f"{part.path}: its '{name}' is not that of {whole.path}, whose weights the layout hf takes."
                )


def register() -> None:
    """From now on transformers' AutoModel classes load the folders of the layout hf with their vision part reduced."""
    for name in FAMILIES:
        if (place := family_of(name).generation) is not None:
            importlib.import_module(place).register()
