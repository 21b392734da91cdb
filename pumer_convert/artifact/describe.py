"""What an app has to know beside the model file: written next to ONNX files and engines, read by `Pipeline`."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pumer_convert import __version__
from pumer_convert.checkpoint.companions import has_tokenizer
from pumer_convert.checkpoint.fingerprint import fingerprint
from pumer_convert.data.served_tokenizer import ENDING, ServedForm, served_form
from pumer_convert.image_processor.picture_input import input_of, settings_of
from pumer_convert.models.family import family_module
from pumer_convert.weights import Checkpoint

PARTS = (".data", ENDING, ".json")
"""What belongs to an ONNX file, beside it: its weights, where they are large, its tokenizer and its sidecar."""


def describe(checkpoint: Checkpoint, image_size: Any = None) -> dict[str, Any]:
    """The model and its task, the labels of its logits, the preprocessing of pictures and text, and the reductions.

    `image_size` is the one that was asked for at export, if any. In the description it is [H, W] of the one size that
    pictures have, or of a square one where they keep their shape; "pictures" tells the rest.
    """
    config, spec = checkpoint.config, family_module(checkpoint.family).spec(checkpoint.config)
    settings = settings_of(checkpoint.processor, checkpoint.family, image_size)
    pictures = input_of(settings, checkpoint.family, config)
    return {
        "format": 1,
        "model": checkpoint.family,
        "task": checkpoint.task,
        "image_size": list(pictures.nominal),
        "pictures": {"fit": settings.fit, "asked": image_size, **asdict(pictures)},
        "labels": config.get("id2label"),
        "preprocessing": checkpoint.processor,
        "text": {
            "longest": spec.max_text,
            "vocab_size": spec.vocabulary,
            "pad_token_id": config.get("text", config).get("pad_token_id"),
        },
        "reductions": config.get("pumer", {}),
    }


def promise(
    checkpoint: Checkpoint, dtype: str, image_size: Any, opset: int, served: ServedForm | None, inlined: bool = False
) -> dict[str, Any]:
    """What the sidecar of an ONNX file says beside what was found out in making it: two exports of which it is the same
    are the same. `image_size` S, [H, W] or None, the checkpoint's own; `served` its tokenizer;
    `inlined`: whether the reducers stand in the graph itself, in standard operators alone."""
    described = describe(checkpoint, image_size)
    return {
        **described,
        "text": {**described["text"], "tokenizer": None if served is None else served.entry},
        "dtype": dtype,
        "opset": opset,
        "inlined_functions": inlined,
        "source": {"fingerprint": fingerprint(checkpoint)},
        "pumer_convert": __version__,
    }


def differing(values: Mapping[str, Any], checkpoint: Checkpoint) -> list[str]:
    """What a sidecar's `values` tell of pictures, answers and texts otherwise than the checkpoint's files do now; the
    sidecars of version 0.1 are not looked at."""
    if values.get("pictures") is None:
        return []
    asked = values["pictures"]["asked"]
    now = describe(checkpoint, asked)
    family = checkpoint.family
    same = settings_of(values["preprocessing"], family, asked) == settings_of(now["preprocessing"], family, asked)
    changed = [] if same else ["preprocessing"]
    text = {name: value for name, value in values["text"].items() if name != "tokenizer"}
    changed += [name for name in ("task", "labels") if values[name] != now[name]] + ["text"] * (text != now["text"])
    # An export whose tokenizer lay elsewhere has none of its own.
    if (entry := values["text"].get("tokenizer")) and has_tokenizer(checkpoint.companions):
        served = served_form(checkpoint, "")
        if served is None or {**served.entry, "file": entry["file"]} != entry:
            changed.append("tokenizer")
    return changed
