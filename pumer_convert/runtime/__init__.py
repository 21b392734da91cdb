"""One call for a checkpoint folder, an ONNX file or an engine: the same names in, logits out."""

from pumer_convert.runtime.open import open_runtime
from pumer_convert.runtime.pipeline import Answer, Pipeline

__all__ = ["Answer", "Pipeline", "open_runtime"]
