"""Triton model (Python backend): the exported ONNX file in ONNX Runtime. Written by pumer-convert.

Needs numpy and onnxruntime (for a GPU: onnxruntime-gpu) where it is served.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Runs the requests that the batcher gathered in one pass, on the instance's own device."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the ONNX file that lies beside this one."""
        file = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        cuda = ("CUDAExecutionProvider", {"device_id": args["model_instance_device_id"]})
        providers = [cuda] if args["model_instance_kind"] == "GPU" else ["CPUExecutionProvider"]
        onnxruntime.set_default_logger_severity(3)
        self.session = onnxruntime.InferenceSession(str(file), providers=providers)
        self.inputs = [entry.name for entry in self.session.get_inputs()]
        self.outputs = [entry.name for entry in self.session.get_outputs()]
        if providers[0] == cuda and cuda[0] not in self.session.get_providers():
            raise RuntimeError("ONNX Runtime cannot use the GPU: install onnxruntime-gpu, or write kind: KIND_CPU")

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response for every request; Triton gathers only requests of one shape."""
        given = [
            {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
            for request in requests
        ]
        try:
            together = {name: np.concatenate([one[name] for one in given]) for name in self.inputs}
            values = self.session.run(self.outputs, together)
        except Exception as error:
            if len(requests) > 1:  # one by one, so that a wrong request takes no other along
                return [self.execute([request])[0] for request in requests]
            why = pb_utils.TritonError(f"the model refuses it: {str(error).splitlines()[0]}")
            return [pb_utils.InferenceResponse(output_tensors=[], error=why)]
        ends = np.cumsum([len(one[self.inputs[0]]) for one in given])[:-1]
        parts = zip(*(np.split(value, ends) for value in values), strict=True)
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(*named) for named in zip(self.outputs, part, strict=True)])
            for part in parts
        ]
