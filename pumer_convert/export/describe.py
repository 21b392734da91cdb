"""What an app has to know beside the model file: written next to ONNX files and engines, read by `Pipeline`."""

import json
from typing import Any

from pumer_convert.plan import family_module
from pumer_convert.weights import Checkpoint


def describe(checkpoint: Checkpoint, image_size: list[int]) -> dict[str, Any]:
    """The model and its task, the labels of its logits, the preprocessing of pictures [H, W] and text, and the
    reductions."""
    config = checkpoint.config
    files = {file.name: file.read_text("utf-8") for file in checkpoint.companions if "preprocessor" in file.name}
    pictures = {**checkpoint.extra_files, **files}.get("preprocessor_config.json")
    return {
        "format": 1,
        "model": checkpoint.family,
        "task": checkpoint.task,
        "image_size": list(image_size),
        "labels": config.get("id2label"),
        "preprocessing": json.loads(pictures) if pictures else None,
        "text": {
            "longest": family_module(checkpoint.family).outline(config).max_text,
            "pad_token_id": config.get("text", config).get("pad_token_id"),
        },
        "reductions": config.get("pumer", {}),
    }
