"""Proof that an exported model equals the eager one: decisions first, then the arithmetic given the same decisions."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pumer_convert.convert.build import build
from pumer_convert.errors import VerificationError
from pumer_convert.image_processor.picture_input import picture_input
from pumer_convert.models.family import family_module
from pumer_convert.models.inputs import GRID, PATCHES, PIXELS, PictureInput
from pumer_convert.reducers.site import Trace
from pumer_convert.system.heap import trim
from pumer_convert.verification.session import DecisionSession, open_graph
from pumer_convert.weights import Checkpoint

TOLERANCE = {"float32": 1e-4, "float16": 3e-2, "bfloat16": 2e-1}
"""Largest difference of logits allowed, as a share of the largest logit."""
SLACK = {"float32": 1e-4, "float16": 3e-2, "bfloat16": 2e-1}
"""How much worse than eager's own a decision may be and count as a tie (see `Reduction.slack`)."""


@dataclass(frozen=True)
class Case:
    """A batch to try: `padded` shortens every second example by a third; `ties` makes every patch the same. Where
    pictures keep their shape, square, wide and tall ones take turns."""

    batch: int
    text: int
    padded: bool = True
    ties: bool = False


Inputs = dict[str, NDArray[Any]]
"""A model's inputs by name; see `PictureInput.ports`."""


def tensors(inputs: Inputs, dtype: torch.dtype) -> dict[str, Tensor]:
    """Inputs for the eager model, pixels or patches in `dtype`."""
    return {
        name: torch.from_numpy(value).to(dtype) if value.dtype == np.float32 else torch.from_numpy(value)
        for name, value in inputs.items()
    }


def default_cases(checkpoint: Checkpoint) -> tuple[Case, ...]:
    """Several batches and lengths, odd ones, padded or not, and one of ties, within the model's longest text."""
    longest = family_module(checkpoint.family).spec(checkpoint.config).max_text
    lengths = [min(n, longest) for n in (2, 17, 32, 40)]
    return (
        Case(1, lengths[0], padded=False),
        Case(2, lengths[1]),
        Case(3, lengths[2]),
        Case(1, lengths[3], padded=False),
        Case(2, lengths[1], ties=True),
    )


def sample(checkpoint: Checkpoint, case: Case, pictures: PictureInput) -> Inputs:
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
    return {"input_ids": ids, "attention_mask": mask, **_pictures(random, case, pictures)}


def _pictures(random: np.random.Generator, case: Case, pictures: PictureInput) -> Inputs:
    if not pictures.packed:
        shape = (case.batch, *(side for side in pictures.ports[-1].shape if isinstance(side, int)))
        pixels = random.standard_normal(shape).astype(np.float32)
        if case.ties:
            pixels = np.broadcast_to(pixels.mean(axis=(-1, -2), keepdims=True), shape).copy()
        return {PIXELS: pixels}
    side = isqrt(pictures.usual)
    long = (pictures.most or 2 * pictures.usual) // side
    shapes = ((side, side), (side, long), (long, side), (max(side // 2, 1), long), (side, max(long - 1, 1)))
    count = case.batch * pictures.images
    grid = np.array([shapes[(i + case.batch + case.text) % len(shapes)] for i in range(count)], np.int64)
    width = pictures.ports[-2].shape[-1]
    assert isinstance(width, int)
    patches = np.zeros((count, grid.prod(1).max(), width), np.float32)
    for row, sides in zip(patches, grid, strict=True):
        own = row[: sides.prod()]
        own[:] = random.standard_normal((1, width) if case.ties else own.shape)
    if pictures.images > 1:
        patches, grid = (v.reshape(case.batch, pictures.images, *v.shape[1:]) for v in (patches, grid))
    return {PATCHES: patches, GRID: grid}


def verify_onnx(
    path: Path, checkpoint: Checkpoint, cases: Sequence[Case] | None = None, image_size: Any = None
) -> dict[str, Any]:
    """Compare the ONNX file at `path`, on ONNX Runtime's CPU, with the eager model of `checkpoint` (float32 arithmetic
    on weights of the file's type); `default_cases` unless others are given. `image_size` is the one that was asked for
    at export, if any.

    Every decision of the graph must be eager's own or as good as it; then the logits must agree when eager follows
    the same decisions. Gives {"dtype": ..., "verification": {...}}; raises VerificationError otherwise, InputError
    for a file that is not one of ours. The two never stand in memory together.
    """
    cases = default_cases(checkpoint) if cases is None else cases
    with open_graph(path) as graph:
        dtype, pictures = graph.dtype, graph.pictures
        if pictures.packed:  # a graph does not know how many patches the pictures have
            pictures = picture_input(checkpoint, image_size)
        answers = [_Answer.of(graph, sample(checkpoint, case, pictures)) for case in cases]
    del graph
    trim()
    model = build(checkpoint, image_size if pictures.size is None else list(pictures.size), dtype).float()
    report = [_compare(model, case, answer, dtype, path.name) for case, answer in zip(cases, answers, strict=True)]
    return {
        "dtype": dtype,
        "verification": {
            "cases": len(cases),
            "logits_error": max(r.error for r in report),
            "tolerance": TOLERANCE[dtype],
            "decisions": sum(r.decided for r in report),
            "decisions_that_differ": sum(r.differing for r in report),
            "worst_slack": max(r.slack for r in report),
        },
    }


@dataclass(frozen=True)
class _Answer:
    inputs: Inputs
    logits: Tensor
    decisions: dict[str, Tensor]

    @classmethod
    def of(cls, graph: DecisionSession, inputs: Inputs) -> "_Answer":
        logits, decisions = graph.run(inputs)
        return cls(inputs, torch.from_numpy(logits), {k: torch.from_numpy(v) for k, v in decisions.items()})


@dataclass(frozen=True)
class _Agreement:
    error: float
    slack: float
    decided: int
    differing: int


def _compare(model: nn.Module, case: Case, answer: _Answer, dtype: str, name: str) -> _Agreement:
    with torch.no_grad():
        trace = Trace(answer.decisions)
        forced = model(**tensors(answer.inputs, torch.float32), trace=trace).logits
    slack = max((float(s.max()) for s in trace.slack.values()), default=0.0)
    if not bool(torch.isfinite(answer.logits).all()):
        raise VerificationError(f"{name}: the logits are not finite at {case}.")
    error = float((answer.logits - forced).abs().max() / forced.abs().max().clamp(min=1e-12))
    if slack > SLACK[dtype]:
        raise VerificationError(
            f"{name}: the graph chose other tokens than eager at {case}, worse by {slack:.2e} "
            f"({SLACK[dtype]:.0e} counts as a tie)."
        )
    if error > TOLERANCE[dtype]:
        raise VerificationError(
            f"{name}: the logits differ from eager by {error:.2e} of the largest at {case}; "
            f"{TOLERANCE[dtype]:.0e} is allowed for {dtype}."
        )
    return _Agreement(
        error=error,
        slack=slack,
        decided=sum(value.numel() for value in trace.taken.values()),
        differing=sum(trace.differing.values()),
    )
