"""Recognise a checkpoint by its content and bring it into the one form."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pumer_convert.checkpoint.absent import instead_of_weights
from pumer_convert.checkpoint.companions import check_links, companions, has_tokenizer
from pumer_convert.checkpoint.kinds import is_safetensors
from pumer_convert.checkpoint.locate import WEIGHTS, chosen_weights, is_shard, resolve
from pumer_convert.checkpoint.pickles import PickleSource
from pumer_convert.checkpoint.resized import at_image_size
from pumer_convert.checkpoint.sources import MergedSource, RenamedSource, SafetensorsSource
from pumer_convert.checkpoint.state import check_plain, owner, unwrapped
from pumer_convert.errors import InputError
from pumer_convert.image_processor.picture_input import check_patch
from pumer_convert.image_processor.settings import image_settings
from pumer_convert.models.family import FAMILIES, family_of
from pumer_convert.models.planned import why_left
from pumer_convert.models.reductions import check_reductions
from pumer_convert.system.json_file import read_object
from pumer_convert.system.paths import there
from pumer_convert.weights import (
    CONFIGS,
    FLOATS,
    NESTED_PROCESSOR,
    PROCESSOR,
    Checkpoint,
    RawCheckpoint,
    TensorSource,
    processor_of,
)

READABLE = (
    "transformers folders of ViLT, BridgeTower, CLIP, SigLIP, VisionTextDualEncoder, DINOv2, LLaVA, LLaVA-OneVision, "
    "PaliGemma, Gemma 3, InternVL, Idefics3 and SmolVLM, CLIP and SigLIP of open_clip, original ViLT, METER and "
    "CLIP+FDT files, published PuMer folders, and the folders that pumer-convert writes"
)
_BARE = (".ckpt", ".pt", ".pth", ".pth.tar", ".safetensors", ".bin")
_STATES = re.compile(r"(optimizer|scheduler|scaler|sampler|training_args|rng_state|random_states)\b|\w*_states_")
"""Files that trainers write beside the weights."""
NO_PROCESSOR = (
    "There is no preprocessor_config.json with this checkpoint; its pictures are prepared as {} does, the shorter side "
    "{} pixels."
)
NO_TOKENIZER = "There is no tokenizer with this checkpoint; raw-text questions need one: --tokenizer FOLDER."


def open_checkpoint(path: Path, tokenizer: Path | None = None) -> Checkpoint:
    """The checkpoint at `path`, whatever `resolve` takes, in the one form; weights stay on disk.

    The tokenizer and processor files of the folder `tokenizer` go before those beside the weights. Where a processor
    makes pictures of one size, the model is one for that size. Raises InputError, in one sentence, for what is
    missing, damaged or of a format that is not read.
    """
    path = resolve(path)
    raw = _open_folder(path) if path.is_dir() else _open_file(path, {}, ())
    if tokenizer is not None:
        raw = _with_tokenizer(raw, tokenizer)
    for name in FAMILIES:
        family = family_of(name)
        held = _held(raw, family.known_by)
        checkpoint = family.recognise(held)
        if checkpoint is not None:
            check_reductions(checkpoint.config, family, path)
            return _for_pictures(_noted(checkpoint, held.notes))
    if (why := why_left(raw.config, path)) is not None:
        raise InputError(f"{path}: {why}")
    kind = raw.config.get("model_type")
    found = f"weights such as '{next(iter(raw.source.names()))}'" + (f", model_type '{kind}'" if kind else "")
    raise InputError(f"{path}: no format that is read here ({found}); readable are {READABLE}.")


def as_checkpoint(checkpoint: Path | str | Checkpoint) -> Checkpoint:
    """A checkpoint that is open already, or the one at a path, as `open_checkpoint` opens it."""
    return checkpoint if isinstance(checkpoint, Checkpoint) else open_checkpoint(Path(checkpoint))


def check_complete(checkpoint: Checkpoint) -> None:
    """Raises InputError naming the weights that are missing, too many or misshapen for the config."""
    import torch

    with torch.device("meta"):
        network = family_of(checkpoint.family).build(checkpoint.config)
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    have = checkpoint.slices
    for name, piece in have.items():
        if name in expected and (kind := checkpoint.source.dtype(piece.key)) not in FLOATS:
            raise InputError(
                f"{checkpoint.path}: '{piece.key}' is stored as {kind}; weights are read in {', '.join(FLOATS)} alone. "
                "Take the checkpoint from before it was quantized or changed."
            )
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
    check_links(path, (*CONFIGS, *WEIGHTS))
    if (path / "adapter_config.json").exists():
        raise InputError(f"{path}: an adapter of PEFT; merge it into its model (merge_and_unload) and save that.")
    found = companions(path)
    config = read_object(path / CONFIGS[0]) if (path / CONFIGS[0]).exists() else {}
    if (file := chosen_weights(path)) is not None:
        if file.suffix != ".json":
            return _open_file(file, config, found, path)
        source = _open_index(file)
        return _raw(path, source, config, {}, found)
    bare = [
        f for f in sorted(path.iterdir()) if f.name.endswith(_BARE) and not _STATES.match(f.name) and not f.is_dir()
    ]
    if (lost := next((f for f in bare if not f.exists()), None)) is not None:
        raise InputError(f"{lost}: a link to a file that is not there; copy or download it again.")
    if len(bare) == 1:
        return _open_file(bare[0], config, found, path)
    if not bare:
        raise InputError(f"{path}: {instead_of_weights(path)}")
    listed = ", ".join(file.name for file in bare[:3])
    if all(is_shard(file) for file in bare):
        raise InputError(f"{path}: {len(bare)} shards ({listed}) without their index; copy or download it, too.")
    raise InputError(
        f"{path}: {len(bare)} weight files ({listed}) there; expected model.safetensors, pytorch_model.bin or one "
        ".ckpt file."
    )


def _open_file(
    file: Path, config: Mapping[str, Any], found: tuple[Path, ...], path: Path | None = None
) -> RawCheckpoint:
    if not file.is_file():
        raise InputError(f"{file}: not a file of weights.")
    source = _source(file)
    return _raw(path or file, source, config, source.hints if isinstance(source, PickleSource) else {}, found)


def _raw(
    path: Path, source: TensorSource, config: Mapping[str, Any], hints: Mapping[str, Any], found: tuple[Path, ...]
) -> RawCheckpoint:
    notes = source.notes if isinstance(source, PickleSource) else ()
    told = (path if path.is_dir() else path.parent) / CONFIGS[1]
    hints = {**hints, **read_object(told)} if told.exists() else hints
    if not source.names():
        raise InputError(f"{path}: the file of weights holds no tensor.")
    check_plain(source.names(), source.shape, path)
    old, said = unwrapped(source.names(), path)
    if said:
        source = RenamedSource(source, old)
    return RawCheckpoint(path, source, config, hints, found, (*notes, *said))


def _held(raw: RawCheckpoint, known: tuple[str, ...]) -> RawCheckpoint:
    """The weights without what the script that held the model put before their names."""
    names = raw.source.names()
    start = owner(names, known, raw.path)
    if not start:
        return raw
    source = RenamedSource(raw.source, {name.removeprefix(start): name for name in names})
    return replace(raw, source=source, notes=(*raw.notes, f"Names in the file have {start} before them, of a script."))


def _source(file: Path) -> TensorSource:
    return SafetensorsSource([file]) if is_safetensors(file) else PickleSource(file)


def _open_index(index: Path) -> TensorSource:
    where = read_object(index).get("weight_map")
    if not isinstance(where, dict) or not where:
        raise InputError(f"{index}: it has no weight_map.")
    for name in where.values():
        if not isinstance(name, str) or Path(name).name != name:
            raise InputError(f"{index}: its weight_map says {name!r}, which is no name of a file beside it.")
    files = [index.parent / name for name in dict.fromkeys(where.values())]
    for file in files:
        if not there(file):
            raise InputError(f"{index}: its shard {file.name} is not there; copy or download it again.")
    if all(is_safetensors(file) for file in files):
        source: TensorSource = SafetensorsSource(files)
    else:
        source = MergedSource({file: _source(file) for file in files})
    held = set(source.names())
    lost = next((name for name in where if name not in held), None)
    if lost is not None:
        raise InputError(f"{index}: '{lost}' is in no shard; the shards are not those of this index.")
    return source


def _with_tokenizer(raw: RawCheckpoint, folder: Path) -> RawCheckpoint:
    folder = resolve(folder, weights=False)
    files = companions(folder) if folder.is_dir() else ()
    if not has_tokenizer(files):
        raise InputError(f"{folder}: no tokenizer there (tokenizer.json, vocab.txt or vocab.json).")
    names = {file.name for file in files}
    if processor_of(folder, files) is not None:
        names |= {PROCESSOR, NESTED_PROCESSOR}
    return replace(raw, companions=(*(file for file in raw.companions if file.name not in names), *files))


def _for_pictures(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with a processor if it has none, and for pictures of the size that its processor makes."""
    family = family_of(checkpoint.family)
    if family.spec(checkpoint.config).image is None:
        return checkpoint
    values = checkpoint.processor
    if values is None:
        values = family.processor(checkpoint.config)
        made = image_settings(values, family.image_processor)
        side = made.shorter if made.size is None else min(made.size)
        note = NO_PROCESSOR.format(values["image_processor_type"], side)
        checkpoint = replace(checkpoint.with_processor(values), notes=(*checkpoint.notes, note))
    try:
        settings = image_settings(values, family.image_processor)
        size = settings.size
        own = family.spec(checkpoint.config).pictures
        if size is None or size == own.size:
            return checkpoint
        check_patch(settings, own.patch)
    except InputError as error:
        raise InputError(f"{checkpoint.path}: {error}") from None
    note = f"Its processor makes pictures of {size[0]}x{size[1]} pixels; the positions are interpolated for them."
    changed = at_image_size(checkpoint, size[0] if size[0] == size[1] else list(size))
    return replace(changed, notes=(*checkpoint.notes, note))


def _noted(checkpoint: Checkpoint, notes: tuple[str, ...]) -> Checkpoint:
    reads = family_of(checkpoint.family).spec(checkpoint.config).text is not None
    files = (*checkpoint.companions, *map(Path, checkpoint.extra_files))
    if reads and not has_tokenizer(files):
        notes = (*notes, NO_TOKENIZER)
    return replace(checkpoint, notes=(*checkpoint.notes, *notes))
