"""pumer-convert: token reducers for vision-language checkpoints, from checkpoint to engine.

The public functions are loaded when they are first used, so that importing the package stays cheap.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "apply": "pumer_convert.convert.apply",
    "build_engine": "pumer_convert.export.tensorrt",
    "distill": "pumer_convert.training.distill",
    "evaluate": "pumer_convert.evaluation.evaluate",
    "export_onnx": "pumer_convert.export.onnx",
    "load": "pumer_convert.convert.load",
    "open_runtime": "pumer_convert.runtime",
    "Pipeline": "pumer_convert.runtime",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'pumer_convert' has no attribute '{name}'")
