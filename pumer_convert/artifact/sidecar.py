"""The JSON file beside an exported model, as its readers take it: whether it is whole, and the names of its labels."""

from collections.abc import Container, Mapping
from math import prod
from pathlib import Path
from typing import Any

from pumer_convert.data.served_tokenizer import SIDES
from pumer_convert.errors import InputError
from pumer_convert.image_processor.pixels import MOST
from pumer_convert.models.family import FAMILIES
from pumer_convert.models.inputs import Port
from pumer_convert.models.labels import read_labels
from pumer_convert.models.signature import LOGITS
from pumer_convert.models.similarity import is_similarity
from pumer_convert.system.json_file import read_object
from pumer_convert.tasks import TASKS
from pumer_convert.weights import EMBEDDINGS


def read_sidecar(path: Path) -> dict[str, Any]:
    """The sidecar of an exported file. Raises InputError when it is missing or none of ours."""
    file = path.with_name(path.name + ".json")
    if not file.exists():
        raise InputError(f"{path}: its sidecar {file.name} is missing; copy it along, or export once more.")
    values = read_object(file)
    if not is_sidecar(values):
        raise InputError(f"{file}: not a sidecar that pumer-convert wrote; export once more.")
    return values


def labels_of(values: Mapping[str, Any], path: Path) -> list[str]:
    """The names of the logits, in their order. Raises InputError when there are none."""
    if values["task"] == "retrieval":
        return ["match"]
    found = read_labels({"id2label": values["labels"]}, path)
    if found is None:
        raise InputError(f"{path}: nothing names its labels (id2label); add them to the checkpoint's config.json.")
    return found


def outputs_of(values: Mapping[str, Any]) -> tuple[Port, ...]:
    """What the graph gives. Version 0.1 wrote nothing of it: logits, one for each label."""
    if "outputs" not in values:
        count = len(values["labels"]) if values.get("labels") else 1
        return (Port(LOGITS, "float32", ("batch", count)),)
    return tuple(Port(entry["name"], entry["dtype"], tuple(entry["shape"])) for entry in values["outputs"])


def is_sidecar(values: Mapping[str, Any]) -> bool:
    """Whether every value that is gone by is there and of its kind; see `describe` for what they mean."""
    text, pictures = values.get("text"), values.get("pictures")
    return (
        _one_of(values.get("task"), {*TASKS, EMBEDDINGS})
        and _one_of(values.get("model"), FAMILIES)
        and all(name in values and isinstance(values[name], dict | None) for name in ("labels", "preprocessing"))
        and isinstance(values.get("graph", ""), str)
        and isinstance(values.get("keep_float32", []), list)
        and all(isinstance(name, str) for name in values.get("keep_float32", []))
        and isinstance(values.get("outputs", []), list)
        and all(_is_port(entry) for entry in values.get("outputs", []))
        and "text" in values
        and (text is None or (isinstance(text, dict) and _is_text(text)))
        # A text's own graph takes no pictures; version 0.1 told of their size alone.
        and (("pictures" in values and pictures is None) or _is_size(values.get("image_size")))
        and (pictures is None or (isinstance(pictures, dict) and _is_pictures(pictures)))
        and (values.get("similarity") is None or is_similarity(values["similarity"]))
    )


def _is_port(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and all(isinstance(entry.get(name), str) for name in ("name", "dtype"))
        and isinstance(entry.get("shape"), list)
        and all(isinstance(side, str) or _is_count(side, 1) for side in entry["shape"])
    )


def _is_text(told: Mapping[str, Any]) -> bool:
    return (
        _is_count(told.get("longest"), 2)
        and "pad_token_id" in told
        and all(told.get(name) is None or _is_count(told[name], 0) for name in ("pad_token_id", "vocab_size"))
        and (told.get("length") is None or (_is_count(told["length"], 2) and _longest(told) <= told["length"]))
        and isinstance(told.get("masked", True), bool)
        and told.get("padding", "right") in ("right", "left")
        and (told.get("tokenizer") is None or _is_tokenizer(told["tokenizer"]))
    )


def _longest(told: Mapping[str, Any]) -> int:
    """The longest text that the tokenizer is asked for, which a fixed length has to hold."""
    entry: Any = told.get("tokenizer")
    return max(int(told["longest"]), int(entry["longest"]) if _is_tokenizer(entry) else 0)


def _is_pictures(told: Mapping[str, Any]) -> bool:
    # Version 0.1 wrote nothing of pictures; what did, wrote all of it.
    sizes = all(name in told for name in ("asked", "size"))
    numbers = all(_is_count(told.get(name), 1) for name in ("images", "patch", "fewest", "usual"))
    limit = "most" in told and all(told.get(name) is None or _is_count(told[name], 1) for name in ("most", "limit"))
    asked, size = told.get("asked"), told.get("size")
    return (
        sizes
        and numbers
        and limit
        and (asked is None or _is_count(asked, 1) or _is_size(asked))
        and (size is None or _is_size(size))
    )


def _is_tokenizer(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and all(isinstance(entry.get(name), str) for name in ("file", "sha256"))
        and Path(entry["file"]).name == entry["file"]
        and _is_count(entry.get("longest"), 2)
        and _is_count(entry.get("pad_token_id"), 0)
        and entry.get("truncation_side") in SIDES
        and isinstance(entry.get("encode_special_tokens"), bool)
    )


def _one_of(value: Any, known: Container[str]) -> bool:
    return isinstance(value, str) and value in known


def _is_count(value: Any, least: int) -> bool:
    return type(value) is int and least <= value <= MOST


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_is_count(n, 1) for n in value) and prod(value) <= MOST
