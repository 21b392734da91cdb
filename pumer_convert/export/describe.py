"""What an app has to know beside the model file: written next to ONNX files and engines, read by `Pipeline`."""

from typing import Any

from pumer_convert import __version__
from pumer_convert.checkpoint.fingerprint import fingerprint
from pumer_convert.plan import family_module
from pumer_convert.weights import Checkpoint

PARTS = (".data", ".json")
"""What belongs to an ONNX file, beside it: its weights, where they are large, and its sidecar."""


def describe(checkpoint: Checkpoint, image_size: list[int]) -> dict[str, Any]:
    """The model and its task, the labels of its logits, the preprocessing of pictures [H, W] and text, and the
    reductions."""
    config, outline = checkpoint.config, family_module(checkpoint.family).outline(checkpoint.config)
    return {
        "format": 1,
        "model": checkpoint.family,
        "task": checkpoint.task,
        "image_size": list(image_size),
        "labels": config.get("id2label"),
        "preprocessing": checkpoint.processor,
        "text": {
            "longest": outline.max_text,
            "vocab_size": outline.vocabulary,
            "pad_token_id": config.get("text", config).get("pad_token_id"),
        },
        "reductions": config.get("pumer", {}),
    }


def promise(checkpoint: Checkpoint, dtype: str, image_size: Any, opset: int) -> dict[str, Any]:
    """What the sidecar of an ONNX file says beside what was found out in making it: two exports of which it is the same
    are the same. `image_size` S, [H, W] or None, the checkpoint's own."""
    size = checkpoint.config["image_size"] if image_size is None else image_size
    return {
        **describe(checkpoint, [size, size] if isinstance(size, int) else list(size)),
        "dtype": dtype,
        "opset": opset,
        "source": {"fingerprint": fingerprint(checkpoint)},
        "pumer_convert": __version__,
    }
