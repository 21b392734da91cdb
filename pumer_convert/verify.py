"""Proof that an exported model equals the eager one: decisions first, then the arithmetic given the same decisions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pumer_convert.errors import InputError, VerificationError
from pumer_convert.plan import family_module
from pumer_convert.reducers.step import Trace
from pumer_convert.weights import Checkpoint

TOLERANCE = {"float32": 1e-4, "float16": 3e-2, "bfloat16": 2e-1}
"""Largest difference of logits allowed, as a share of the largest logit."""
SLACK = {"float32": 1e-4, "float16": 3e-2, "bfloat16": 2e-1}
"""How much worse than eager's own a decision may be and count as a tie (see `Reduction.slack`)."""


@dataclass(frozen=True)
class Case:
    """A batch to try: `padded` shortens every second example by a third; `ties` makes every patch the same."""

    batch: int
    text: int
    padded: bool = True
    ties: bool = False


@dataclass(frozen=True)
class Inputs:
    """input_ids, attention_mask int64 [B, T]; pixel_values float32."""

    input_ids: Tensor
    attention_mask: Tensor
    pixel_values: Tensor

    def values_in(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """The three, with the pixels in `dtype`."""
        return self.input_ids, self.attention_mask, self.pixel_values.to(dtype)

    def as_numpy(self) -> dict[str, Any]:
        """By name, for ONNX Runtime."""
        return {
            "input_ids": self.input_ids.numpy(),
            "attention_mask": self.attention_mask.numpy(),
            "pixel_values": self.pixel_values.numpy(),
        }


def default_cases(checkpoint: Checkpoint) -> tuple[Case, ...]:
    """Several batches and lengths, odd ones, padded or not, and one of ties, within the model's longest text."""
    longest = family_module(checkpoint.family).outline(checkpoint.config).max_text
    lengths = [min(n, longest) for n in (2, 17, 32, 40)]
    return (
        Case(1, lengths[0], padded=False),
        Case(2, lengths[1]),
        Case(5, lengths[2]),
        Case(1, lengths[3], padded=False),
        Case(2, lengths[1], ties=True),
    )


def sample(checkpoint: Checkpoint, model: nn.Module, case: Case) -> Inputs:
    """Random inputs of a case, the same every time."""
    random = np.random.default_rng([case.batch, case.text, case.padded, case.ties])
    config = checkpoint.config
    text = config.get("text", config)
    pad = int(text.get("pad_token_id") or 0)
    vocabulary = int(text["vocab_size"])
    ids = random.integers(min(5, vocabulary - 1), vocabulary, (case.batch, case.text))
    mask = np.ones_like(ids)
    if case.padded:
        for row in range(1, case.batch, 2):
            cut = max(2, case.text - case.text // 3 - row // 2)
            mask[row, cut:], ids[row, cut:] = 0, pad
    height, width = model.image_size  # type: ignore[misc]
    images = int(model.images)  # type: ignore[arg-type]
    shape = (case.batch, *((images,) if images > 1 else ()), 3, height, width)
    pixels = random.standard_normal(shape).astype(np.float32)
    if case.ties:
        pixels = np.broadcast_to(pixels.mean(axis=(-1, -2), keepdims=True), shape).copy()
    return Inputs(torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(pixels))


def verify_onnx(
    model: nn.Module,
    path: Path,
    checkpoint: Checkpoint,
    cases: Sequence[Case],
    *,
    dtype: str,
    names: Sequence[str],
    tolerance: float | None = None,
) -> dict[str, Any]:
    """Compare the ONNX file at `path` on ONNX Runtime's CPU with `model` (float32 arithmetic on the same weights).

    Every decision of the graph, `names` among its outputs, must be eager's own or as good as it; then the logits must
    agree when eager follows the same decisions. Gives {"verification": {...}}; raises VerificationError otherwise.
    """
    runnable = path if dtype != "bfloat16" else widened(path)
    session = open_session(runnable)
    if runnable != path:
        runnable.unlink()
    limit = TOLERANCE[dtype] if tolerance is None else tolerance
    worst, worst_slack, differing, decided = 0.0, 0.0, 0, 0
    for case in cases:
        inputs = sample(checkpoint, model, case)
        outputs = session.run(None, inputs.as_numpy())
        given = {name: torch.from_numpy(value) for name, value in zip(names, outputs[1:], strict=True)}
        with torch.no_grad():
            free = model(*inputs.values_in(torch.float32))
            trace = Trace(given)
            forced = model(*inputs.values_in(torch.float32), trace)
        for name, own in free.trace.taken.items():
            decided += own.numel()
            differing += int((own != given[name]).sum())
        slack = max((float(s.max()) for s in trace.slack.values()), default=0.0)
        logits = torch.from_numpy(outputs[0])
        if not bool(torch.isfinite(logits).all()):
            raise VerificationError(f"{path.name}: the logits are not finite at {case}.")
        error = float((logits - forced.logits).abs().max() / forced.logits.abs().max().clamp(min=1e-12))
        worst, worst_slack = max(worst, error), max(worst_slack, slack)
        if slack > SLACK[dtype]:
            raise VerificationError(
                f"{path.name}: the graph chose other tokens than eager at {case}, worse by {slack:.2e} "
                f"({SLACK[dtype]:.0e} counts as a tie)."
            )
        if error > limit:
            raise VerificationError(
                f"{path.name}: the logits differ from eager by {error:.2e} of the largest at {case}; "
                f"{limit:.0e} is allowed for {dtype}."
            )
    return {
        "verification": {
            "cases": len(cases),
            "logits_error": worst,
            "tolerance": limit,
            "decisions": decided,
            "decisions_that_differ": differing,
            "worst_slack": worst_slack,
        }
    }


def widened(path: Path) -> Path:
    """A copy of a bfloat16 graph in float32 arithmetic with the same weights, beside it: ONNX Runtime's CPU has no
    bfloat16 kernels."""
    import onnx

    model = onnx.load(str(path))
    bf16, fp32 = onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT

    def widen(tensor: Any, name: str) -> None:
        if tensor.data_type == bf16:
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float32), name))

    for tensor in model.graph.initializer:
        widen(tensor, tensor.name)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == bf16:
                attribute.i = fp32
            if attribute.HasField("t"):
                widen(attribute.t, attribute.t.name)
    del model.graph.value_info[:]
    wide = path.with_name(path.name + ".wide")
    onnx.save(model, str(wide))
    return wide


def open_session(path: Path) -> Any:
    """An ONNX Runtime session on the CPU. Raises InputError when the file cannot be loaded."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{path}: ONNX Runtime cannot load it: {first}") from error
