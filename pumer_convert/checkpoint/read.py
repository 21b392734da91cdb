"""Recognise a checkpoint by its content and bring it into the one form."""

import importlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pumer_convert.checkpoint.resized import at_image_size, check_image_size
from pumer_convert.checkpoint.sources import MergedSource, PickleSource, SafetensorsSource
from pumer_convert.data.image import image_settings
from pumer_convert.errors import InputError
from pumer_convert.models import FAMILIES
from pumer_convert.models.reductions import check_reductions
from pumer_convert.weights import (
    NESTED_PROCESSOR,
    PROCESSOR,
    Checkpoint,
    RawCheckpoint,
    TensorSource,
    processor_of,
)

READABLE = (
    "transformers ViLT folders, original ViLT and METER .ckpt files, published PuMer folders, and the folders that "
    "pumer-convert writes"
)
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_NOT_COMPANIONS = ("config.json", "report.json", "recipe.yaml", "README.md")
NO_PROCESSOR = (
    "There is no preprocessor_config.json with this checkpoint; its pictures are prepared as {} does, the shorter side "
    "{} pixels."
)
NO_TOKENIZER = "There is no tokenizer with this checkpoint; raw-text questions need one: --tokenizer FOLDER."


def open_checkpoint(path: Path, tokenizer: Path | None = None) -> Checkpoint:
    """The checkpoint at `path`, a folder or a file, in the one form; weights stay on disk.

    The tokenizer and processor files of the folder `tokenizer` go before those beside the weights. Where a processor
    makes pictures of one size, the model is one for that size. Raises InputError, in one sentence, for what is
    missing, damaged or of a format that is not read.
    """
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder.")
    raw = _open_folder(path) if path.is_dir() else _open_file(path, {}, ())
    if tokenizer is not None:
        raw = _with_tokenizer(raw, tokenizer)
    for module in FAMILIES.values():
        family = importlib.import_module(module)
        checkpoint: Checkpoint | None = family.recognise(raw)
        if checkpoint is not None:
            check_reductions(checkpoint.config, family.outline(checkpoint.config), path)
            return _for_pictures(_noted(checkpoint))
    kind = raw.config.get("model_type")
    found = f"model_type '{kind}'" if kind else f"keys such as '{next(iter(raw.source.names()), 'none')}'"
    raise InputError(f"{path}: no format that is read here ({found}); readable are {READABLE}.")


def check_complete(checkpoint: Checkpoint) -> None:
    """Raises InputError naming the weights that are missing, too many or misshapen for the config."""
    expected: Mapping[str, tuple[int, ...]]
    expected = importlib.import_module(FAMILIES[checkpoint.family]).parameters(checkpoint.config)
    have = checkpoint.pieces
    missing = [name for name in expected if name not in have]
    extra = [name for name in have if name not in expected]
    wrong = [
        f"{name} {checkpoint.shape(name)} instead of {expected[name]}"
        for name in expected
        if name in have and checkpoint.shape(name) != expected[name]
    ]
    parts = [
        f"{len(names)} {what}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
        for what, names in (("missing", missing), ("unexpected", extra), ("of another shape", wrong))
        if names
    ]
    if parts:
        raise InputError(f"{checkpoint.path}: the weights do not fit the config; {'; '.join(parts)}.")


def _open_folder(path: Path) -> RawCheckpoint:
    config = _json(path / "config.json") if (path / "config.json").exists() else {}
    companions = _companions(path)
    for name in _WEIGHTS:
        index = path / f"{name}.index.json"
        if (path / name).exists():
            return _open_file(path / name, config, companions, path)
        if index.exists():
            return RawCheckpoint(path, _open_index(index), config, {}, companions)
    bare = [f for f in sorted(path.iterdir()) if f.suffix in (".ckpt", ".pt", ".pth", ".safetensors", ".bin")]
    if len(bare) == 1:
        return _open_file(bare[0], config, companions, path)
    found = f"{len(bare)} weight files" if bare else "no weights"
    raise InputError(f"{path}: {found} there; expected model.safetensors, pytorch_model.bin or one .ckpt file.")


def _open_file(
    file: Path, config: Mapping[str, Any], companions: tuple[Path, ...], path: Path | None = None
) -> RawCheckpoint:
    source: TensorSource
    if zipfile.is_zipfile(file) or file.suffix not in (".safetensors",):
        source = PickleSource(file)
        return RawCheckpoint(path or file, source, config, source.hints, companions)
    return RawCheckpoint(path or file, SafetensorsSource([file]), config, {}, companions)


def _open_index(index: Path) -> TensorSource:
    where = _json(index).get("weight_map")
    if not isinstance(where, dict) or not where:
        raise InputError(f"{index}: it has no weight_map.")
    files = [index.parent / name for name in dict.fromkeys(where.values())]
    for file in files:
        if not file.exists():
            raise InputError(f"{index}: its shard {file.name} is not there; copy or download it again.")
    if index.name.startswith("pytorch"):
        source: TensorSource = MergedSource([PickleSource(file) for file in files])
    else:
        source = SafetensorsSource(files)
    lost = [name for name in where if name not in set(source.names())]
    if lost:
        raise InputError(f"{index}: '{lost[0]}' is in no shard; the shards are not those of this index.")
    return source


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{file}: not readable as JSON ({error}).") from None
    if not isinstance(value, dict):
        raise InputError(f"{file}: not a JSON object.")
    return value


def _companions(folder: Path) -> tuple[Path, ...]:
    return tuple(
        file
        for file in sorted(folder.iterdir())
        if file.is_file()
        and file.suffix in (".json", ".txt", ".model", ".jinja")
        and file.name not in _NOT_COMPANIONS
        and not file.name.endswith((".index.json", ".engine.json", ".onnx.json"))
    )


def _has_tokenizer(files: tuple[Path, ...]) -> bool:
    return any(file.name in ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model") for file in files)


def _with_tokenizer(raw: RawCheckpoint, folder: Path) -> RawCheckpoint:
    files = _companions(folder) if folder.is_dir() else ()
    if not _has_tokenizer(files):
        raise InputError(f"{folder}: no tokenizer there (tokenizer.json, vocab.txt or vocab.json).")
    names = {file.name for file in files}
    if processor_of(folder, files) is not None:
        names |= {PROCESSOR, NESTED_PROCESSOR}
    return replace(raw, companions=(*(file for file in raw.companions if file.name not in names), *files))


def _for_pictures(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with a processor if it has none, and for pictures of the size that its processor makes."""
    family = importlib.import_module(FAMILIES[checkpoint.family])
    values = checkpoint.processor
    if values is None:
        values = family.processor(checkpoint.config)
        note = NO_PROCESSOR.format(values["image_processor_type"], values["size"]["shortest_edge"])
        checkpoint = replace(checkpoint.with_processor(values), notes=(*checkpoint.notes, note))
    try:
        made = image_settings(values, family.IMAGE_PROCESSOR).size
        own = checkpoint.config["image_size"]
        if made is None or made == ((own, own) if isinstance(own, int) else tuple(own)):
            return checkpoint
        check_image_size(made, checkpoint)
    except InputError as error:
        raise InputError(f"{checkpoint.path}: {error}") from None
    note = f"Its processor makes pictures of {made[0]}x{made[1]} pixels; the positions are interpolated for them."
    size = made[0] if made[0] == made[1] else list(made)
    return replace(at_image_size(checkpoint, size), notes=(*checkpoint.notes, note))


def _noted(checkpoint: Checkpoint) -> Checkpoint:
    if _has_tokenizer(checkpoint.companions):
        return checkpoint
    return replace(checkpoint, notes=(*checkpoint.notes, NO_TOKENIZER))
