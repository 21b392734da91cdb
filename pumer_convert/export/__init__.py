"""From a checkpoint folder to an ONNX file and an engine."""
