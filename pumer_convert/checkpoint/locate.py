"""What a checkpoint may be called: a folder, a file of it, a folder of the Hub's cache, or a name on the Hub."""

import re
from itertools import pairwise
from pathlib import Path

from pumer_convert.checkpoint.companions import COMPANIONS
from pumer_convert.errors import InputError, MissingDependencyError
from pumer_convert.system.paths import there
from pumer_convert.weights import CONFIGS

WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
"""Names that transformers and open_clip give to weights; of several in a folder the first is read, as they do."""
EXPORTED = (".onnx", ".engine")
_FETCHED = (  # the next only where those before bring no weights
    ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json"),
    ("open_clip_model.safetensors",),
    ("open_clip_pytorch_model.bin",),
)
_SHARD = re.compile(r"(model|pytorch_model)-\d+-of-\d+\.(safetensors|bin)")
_HUB = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?", re.ASCII)
_FILE = re.compile(r".*\.(onnx|engine|ckpt|pth?|bin|safetensors|json|ya?ml|tar|zip|gz)", re.IGNORECASE)
_URL = re.compile(r"[a-z]+:/", re.IGNORECASE)


def resolve(name: Path | str, weights: bool = True) -> Path:
    """The folder or file that a checkpoint is read from; every verb's argument goes through here.

    What exists is taken as it is, but for a file of a transformers folder (its weights, an index, config.json), which
    stands for the folder, and a folder of the Hub's cache (models--owner--name), which stands for the snapshot of
    `main` or the only one. `owner/name` or `owner/name@revision` that is nothing here is a name on the Hugging Face
    Hub, taken from the cache or fetched (without `weights`: the small files alone), as HF_HOME and HF_HUB_OFFLINE say.
    Raises InputError saying what to give instead.
    """
    path = Path(name)
    if not there(path) and path.parts[:1] and path.parts[0].startswith("~"):
        path = _expanded(path)
    if there(path):
        return _folder(path) if path.is_dir() else _file(path)
    text = path.as_posix()
    if _URL.match(text):
        raise InputError(f"{text}: a URL; give a folder, or a name on the Hugging Face Hub as owner/name.")
    found = _HUB.fullmatch(text)
    if found is None or _FILE.fullmatch(found["name"]):
        raise InputError(f"{path}: there is no such file or folder.")
    return _fetched(text, found["name"], found["revision"], weights)


def beside(path: Path, ending: str) -> Path:
    """Where something made of the checkpoint at `path` goes unless told otherwise: PATH-ending beside it, or in the
    working directory when it lies in the Hub's cache."""
    name = cached_name(path)
    if name is not None:
        return Path.cwd() / f"{name}-{ending}"
    whole = path.resolve() if ".." in path.parts else path.absolute()
    return whole.parent / f"{whole.name if path.is_dir() else whole.stem}-{ending}"


def own_folder(path: Path) -> Path:
    """The folder that exported files of the checkpoint at `path` go to unless told otherwise: its own. Raises
    InputError when that is the Hub's cache, which is no place for them."""
    if cached_name(path) is not None:
        raise InputError(f"{path}: lies in the Hub's cache; choose a folder to write to with -o.")
    return path if path.is_dir() else path.parent


def cached_name(path: Path) -> str | None:
    """NAME of a path in a snapshot of the Hub's cache, .../models--OWNER--NAME/snapshots/...; None elsewhere."""
    parts = path.absolute().parts
    for part, below in pairwise(parts):
        if part.startswith("models--") and below == "snapshots":
            return part.rsplit("--", 1)[1]
    return None


def chosen_weights(folder: Path) -> Path | None:
    """The file of transformers' names that is read of a folder; None without one."""
    return next((folder / name for name in WEIGHTS if (folder / name).exists()), None)


def config_of(folder: Path) -> Path | None:
    """The file in a folder that says what its weights are of, None without one."""
    return next((folder / name for name in CONFIGS if (folder / name).exists()), None)


def is_shard(file: Path) -> bool:
    """Whether a file is named as one of transformers' shards, which need an index."""
    return _SHARD.fullmatch(file.name) is not None


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # no such user
        return path


def _folder(path: Path) -> Path:
    if path.name == "snapshots" and path.absolute().parent.name.startswith("models--"):
        path = path.parent
    if not (path / "snapshots").is_dir() or config_of(path) is not None:
        return path
    there = sorted(folder for folder in (path / "snapshots").iterdir() if folder.is_dir())
    main = path / "refs" / "main"
    if main.is_file():
        wanted = path / "snapshots" / main.read_text("utf-8", "replace").strip()
        if wanted in there:
            return wanted
    if len(there) != 1:
        names = f"several snapshots ({', '.join(f.name for f in there)}), none of them main" if there else "no snapshot"
        raise InputError(f"{path}: a folder of the Hub's cache with {names}; name the folder of one.")
    return there[0]


def _file(path: Path) -> Path:
    if path.name.endswith((*EXPORTED, ".onnx.data", ".engine.json", ".onnx.json")):
        raise InputError(
            f"{path}: an exported model, and this takes the checkpoint it was made from; give that folder. "
            "`pumer-convert run` takes .onnx and .engine files."
        )
    folder, read = path.parent, chosen_weights(path.parent)
    if path.name in CONFIGS:
        return folder
    if not (path.name in WEIGHTS or is_shard(path)):
        return path
    if read is None or not (config_of(folder) is not None or path.suffix == ".json"):
        return path
    if is_shard(path):
        known = read.suffix == ".json" and path.suffix == read.with_suffix("").with_suffix("").suffix
    else:
        known = path.name == read.name
    if not known:
        raise InputError(f"{path}: beside it lies {read.name}, which is what is read of this folder; give the folder.")
    return folder


def _fetched(text: str, name: str, revision: str | None, weights: bool) -> Path:
    try:
        from huggingface_hub import snapshot_download, try_to_load_from_cache
    except ImportError:
        raise MissingDependencyError(
            f"{text}: no such folder here, and names on the Hugging Face Hub need the package huggingface_hub."
        ) from None
    small = [*CONFIGS, "adapter_config.json", "recipe.yaml", "report.json", *COMPANIONS]
    folder, reason = None, ""
    # Whatever it raises ends here: the errors of its HTTP client have been of three packages by now.
    for patterns in _FETCHED if weights else ((),):
        try:
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*small, *patterns]))
        except Exception as error:
            reason = reason or _reason(error)
            continue
        if chosen_weights(folder) is not None:
            return folder
    try:
        # A snapshot that transformers fetched, which takes fewer small files than are asked for above.
        found = (try_to_load_from_cache(name, file, revision=revision) for file in CONFIGS)
        config = next((file for file in found if isinstance(file, str)), None)
    except ValueError:
        config = None
    if isinstance(config, str) and (not weights or chosen_weights(Path(config).parent) is not None):
        return Path(config).parent
    if folder is not None:
        return folder
    raise InputError(
        f"{text}: there is no such file or folder here; taken as a name on the Hugging Face Hub it could not be got "
        f"({reason}). Check the name, or download it where the Hub can be reached (`hf download {name}`) and give the "
        "folder."
    )


def _reason(error: Exception) -> str:
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return first.strip().rstrip(".")[:200]
