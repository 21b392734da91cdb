"""What an app has to know beside the model file: written next to ONNX files and engines, read by `Pipeline`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pumer_convert import __version__
from pumer_convert.checkpoint.companions import has_tokenizer
from pumer_convert.checkpoint.fingerprint import fingerprint
from pumer_convert.convert.load import signature_of, similarity_of
from pumer_convert.data.served_tokenizer import ENDING, ServedForm, served_form
from pumer_convert.image_processor.picture_input import settings_of
from pumer_convert.models.inputs import TextInput
from pumer_convert.weights import Checkpoint

PARTS = (".data", ENDING, ".json")
"""What belongs to an ONNX file, beside it: its weights, where they are large, its tokenizer and its sidecar."""


def describe(checkpoint: Checkpoint, image_size: Any = None, graph: str | None = None) -> dict[str, Any]:
    """The model and its task, the graph (None: the first), the labels of its logits, the preprocessing of the pictures
    and texts that it takes (None: it takes none), how a picture is scored beside a text (None: it is not), and the
    reductions.

    `image_size` is the one that was asked for at export, if any. In the description it is [H, W] of the one size that
    pictures have, or of a square one where they keep their shape; "pictures" tells the rest.
    """
    signature, config = signature_of(checkpoint, graph, image_size), checkpoint.config
    pictures, text, similarity = signature.pictures, signature.text, similarity_of(checkpoint)
    return {
        "format": 1,
        "model": checkpoint.family,
        "task": checkpoint.task,
        "graph": signature.name,
        "outputs": [asdict(port) for port in signature.outputs],
        "image_size": None if pictures is None else list(pictures.nominal),
        "pictures": None if pictures is None else {**_asked(checkpoint, image_size), **asdict(pictures)},
        "labels": config.get("id2label"),
        "preprocessing": None if pictures is None else checkpoint.processor,
        "text": None if text is None else text.to_sidecar(),
        "similarity": None if similarity is None else similarity.to_sidecar(),
        "reductions": config.get("pumer", {}),
    }


def _asked(checkpoint: Checkpoint, image_size: Any) -> dict[str, Any]:
    return {"fit": settings_of(checkpoint.processor, checkpoint.family, image_size).fit, "asked": image_size}


def promise(
    checkpoint: Checkpoint,
    dtype: str,
    image_size: Any,
    opset: int,
    served: ServedForm | None,
    inlined: bool = False,
    graph: str | None = None,
    kept: Sequence[str] = (),
) -> dict[str, Any]:
    """What the sidecar of an ONNX file says beside what was found out in making it: two exports of which it is the same
    are the same. `image_size` S, [H, W] or None, the checkpoint's own; `served` its tokenizer;
    `inlined`: whether the reducers stand in the graph itself, in standard operators alone; `kept`: its layers that stay
    in float32."""
    described = describe(checkpoint, image_size, graph)
    if described["text"] is not None:
        described["text"]["tokenizer"] = None if served is None else served.entry
    return {
        **described,
        "dtype": dtype,
        "keep_float32": list(kept),
        "opset": opset,
        "inlined_functions": inlined,
        "source": {"fingerprint": fingerprint(checkpoint)},
        "pumer_convert": __version__,
    }


def differing(values: Mapping[str, Any], checkpoint: Checkpoint) -> list[str]:
    """What a sidecar's `values` tell of pictures, answers and texts otherwise than the checkpoint's files do now; the
    sidecars of version 0.1 are not looked at."""
    if "pictures" not in values:
        return []
    asked, family = (values["pictures"] or {}).get("asked"), checkpoint.family
    now = describe(checkpoint, asked, values.get("graph"))
    both = [part["preprocessing"] and settings_of(part["preprocessing"], family, asked) for part in (values, now)]
    changed = [] if both[0] == both[1] else ["preprocessing"]
    told = ("task", "labels", *(("similarity",) if "similarity" in values else ()))
    changed += [name for name in told if values[name] != now[name]]
    changed += ["text"] * (TextInput.of_sidecar(values) != TextInput.of_sidecar(now))
    # An export whose tokenizer lay elsewhere has none of its own.
    if (entry := (values["text"] or {}).get("tokenizer")) and has_tokenizer(checkpoint.companions):
        served = served_form(checkpoint, "")
        if served is None or {**served.entry, "file": entry["file"]} != entry:
            changed.append("tokenizer")
    return changed
