"""The layout hf: a whole model with its vision part reduced, as a folder that transformers generates with."""

import importlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pumer_convert.checkpoint.origin import origin_entry
from pumer_convert.checkpoint.resized import as_stored, resized
from pumer_convert.errors import InputError
from pumer_convert.export.layouts.part import Part
from pumer_convert.export.layouts.whole_weights import changed_weights, write_weights
from pumer_convert.models.family import FAMILIES, family_of
from pumer_convert.models.reductions import POSITIONS
from pumer_convert.system.json_file import read_object
from pumer_convert.system.output import output_folder
from pumer_convert.system.owned import write_report
from pumer_convert.weights import NESTED_PROCESSOR, PROCESSOR, Checkpoint

CARD = """# {name}

A {family} whose vision part gives {tokens} tokens of a picture instead of {dense}, written by pumer-convert. The
weights are those of {whole}{others}; config.json has the reducers under "pumer", and {processor} the new count.

    import pumer_convert
    from transformers import AutoModelForImageTextToText, AutoProcessor

    pumer_convert.register()
    model, processor = (it.from_pretrained(FOLDER) for it in (AutoModelForImageTextToText, AutoProcessor))

Without the call of `register` the vision part is the dense one, {without}
"""
FEWER = """and transformers stops: its features are more than the
image tokens. With it the kept tokens have {positions}."""
KEPT = ("the positions that they had among all of them", "positions one after the other")
TILED = ("max_image_size", "image_grid_pinpoints")
"""Keys of processors that cut pictures into tiles."""
AS_MANY = "which gives as many tokens: nothing is saved."


def export_hf(
    path: Path | str,
    out: Path | str,
    *,
    positions: str = POSITIONS[0],
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Write the whole model that the reduced vision part at `path` is of to the folder `out`: its weights as hard links
    (copies on another file system), those of a trained vision part in files written anew, its processor with the new
    number of image tokens, and config.json with the reducers. `positions` are those of what is left of a picture:
    "original" ones, or "renumbered" as other runtimes do it and the published methods of pruning at the projector were
    measured. Gives the report. Raises InputError for a model without a language model, for one whose whole is not there
    any more, and for weights that neither are those of the whole nor were distilled.
    """
    part, out = Part.at(path, "hf"), Path(out)
    checkpoint, family, path, tokens = part.checkpoint, part.family, part.path, part.tokens
    whole = part.whole()
    pumer = checkpoint.config.get("pumer", {})
    if positions not in POSITIONS:
        raise InputError(f"positions: {positions!r}; allowed: {', '.join(POSITIONS)}.")
    if positions != POSITIONS[0]:
        if tokens == part.dense:
            raise InputError(f"{path}: gives as many tokens as the dense one, so that none is renumbered.")
        pumer = {**pumer, "positions": positions}
    size = pumer.get("image_size", {}).get("to")
    if size is None:
        said = family.spec(family.checked(read_object(whole.path / "config.json"), whole.path)).pictures.size
        if part.size != said:
            raise InputError(
                f"{whole.path}: its processor makes pictures of {part.size[0]}x{part.size[1]} pixels, and its "
                f"config.json is for {said[0]}x{said[1]}; the layout hf takes a model of which both say the same."
            )
    elif any(key in (checkpoint.processor or {}) for key in TILED):
        raise InputError(
            f"{path}: its recipe has an image_size, and how pictures are cut into tiles of that, the whole model says "
            "in several places; the layout hf takes such a part with the image size of the whole."
        )
    fitted, stored = whole if size is None else resized(whole, size), as_stored(whole)
    changed = changed_weights(checkpoint, fitted, own="distill" in read_object(path / "report.json"))
    shapes = ((key, fitted.source.shape(key), stored.source.shape(key)) for key in stored.source.names())
    changed |= {key: now for key, now, before in shapes if now != before}
    with output_folder(out, overwrite, (path, whole.path)) as folder:
        progress(f"linking the weights of {whole.path}")
        write_weights(checkpoint, stored, changed, folder)
        for file in whole.companions:
            shutil.copyfile(file, folder / file.name)
        for name, text in whole.extra_files.items():
            (folder / name).write_text(text, "utf-8")
        config = read_object(whole.path / "config.json") | {"pumer": pumer}
        count = importlib.import_module(part.generation).count
        changes: Mapping[str, Mapping[str, Any]] = count(checkpoint.config, tokens)
        if size is not None:
            config, changes = _sized(config, checkpoint, changes)
        for name in dict.fromkeys(("config.json", *changes)):
            there = read_object(folder / name) if (folder / name).exists() else {}
            if there or name != PROCESSOR:
                text = json.dumps(_changed(config if name == "config.json" else there, changes.get(name, {})), indent=2)
                (folder / name).write_text(text + "\n", "utf-8")
        told = {
            "name": out.name,
            "family": family.name,
            "tokens": tokens,
            "dense": part.dense,
            "whole": f"`{whole.path.name}`",
            "others": ", but for those of the vision part" if changed else "",
            "without": FEWER.format(positions=KEPT[POSITIONS.index(positions)]) if tokens < part.dense else AS_MANY,
        }
        (folder / "README.md").write_text(CARD.format(**told, processor=NESTED_PROCESSOR), "utf-8")
        report = {
            "layout": "hf",
            "out": str(out),
            "source": origin_entry(whole, out),
            "vision": str(path),
            "image_tokens": tokens,
            "dense_tokens": part.dense,
            "replaced_weights": len(changed),
        }
        return write_report(folder, report)


def _sized(
    config: dict[str, Any], part: Checkpoint, changes: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Any], dict[str, Mapping[str, Any]]]:
    """A whole model's config, and changes to its files, for the size of pictures that its vision part takes."""
    name = family_of(part.family).image_section
    assert name is not None
    own, values = part.config[name], part.processor or {}
    sizes = {key: values[key] for key in ("size", "crop_size") if key in values}
    nested, plain = (dict(changes.get(file, {})) for file in (NESTED_PROCESSOR, PROCESSOR))
    nested["image_processor"] = {**nested.get("image_processor", {}), **sizes}
    section = {**(config.get(name) or own), "image_size": own["image_size"]}
    return {**config, name: section}, {**changes, NESTED_PROCESSOR: nested, PROCESSOR: {**plain, **sizes}}


def _changed(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Values with others in their place; those of a section that there is not are left out."""
    found = dict(values)
    for key, value in changes.items():
        if not isinstance(value, Mapping):
            found[key] = value
        elif isinstance(values.get(key), Mapping):
            found[key] = {**values[key], **value}
    return found


def register() -> None:
    """From now on transformers' AutoModelForImageTextToText loads the folders of the layout hf with their vision part
    reduced; its other Auto classes make the dense model of them."""
    from transformers import AutoModelForImageTextToText

    for name in FAMILIES:
        if (place := family_of(name).generation) is not None:
            whole = importlib.import_module(place).MODEL
            AutoModelForImageTextToText.register(whole.config_class, whole, exist_ok=True)
