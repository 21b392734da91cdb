"""Proof that an exported model equals the eager one: decisions first, then the arithmetic given the same decisions."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pumer_convert.convert.build import build
from pumer_convert.convert.load import HALF, signature_of
from pumer_convert.errors import InputError, VerificationError
from pumer_convert.models.body import Body
from pumer_convert.models.family import family_of
from pumer_convert.models.inputs import GRID, IDS, MASK, PATCHES, PIXELS, PictureInput, TextInput
from pumer_convert.models.signature import Signature
from pumer_convert.reducers.site import Trace
from pumer_convert.system.heap import trim
from pumer_convert.verification.half_precision import Batch
from pumer_convert.verification.session import DecisionSession, open_graph
from pumer_convert.verification.type_check import TypeCheck
from pumer_convert.weights import Checkpoint

TOLERANCE = {"float32": 1e-4, "float16": 3e-2, "bfloat16": 2e-1}
"""Largest difference of an output allowed, as a share of its largest value."""
SLACK = {"float32": 1e-4, "float16": 3e-2, "bfloat16": 2e-1}
"""How much worse than eager's own a decision may be and count as a tie (see `Reduction.slack`)."""


@dataclass(frozen=True)
class Case:
    """A batch to try: `padded` shortens every second example by a third; `ties` makes every patch the same. Where
    pictures keep their shape, square, wide and tall ones take turns; where they are a batch of their own, there are
    `more` of them than texts."""

    batch: int
    text: int
    padded: bool = True
    ties: bool = False
    more: int = 1


Inputs = dict[str, NDArray[Any]]
"""A model's inputs by name; see `Signature.inputs`."""


def tensors(inputs: Inputs, dtype: torch.dtype) -> dict[str, Tensor]:
    """Inputs for the eager model, pixels or patches in `dtype`."""
    return {
        name: torch.from_numpy(value).to(dtype) if value.dtype == np.float32 else torch.from_numpy(value)
        for name, value in inputs.items()
    }


def default_cases(signature: Signature) -> tuple[Case, ...]:
    """Several batches and lengths, odd ones, padded or not, and one of ties, within the model's longest text."""
    longest = (signature.text.longest if signature.text is not None else None) or 40
    lengths = [min(n, longest) for n in (2, 17, 32, 40)]
    return (
        Case(1, lengths[0], padded=False),
        Case(2, lengths[1]),
        Case(3, lengths[2]),
        Case(1, lengths[3], padded=False),
        Case(2, lengths[1], ties=True),
    )


def sample(signature: Signature, case: Case) -> Inputs:
    """Random inputs of a case, the same every time."""
    random = np.random.default_rng([case.batch, case.text, case.padded, case.ties])
    text = {} if signature.text is None else _text(random, case, signature.text)
    if signature.pictures is None:
        return text
    case = replace(case, batch=case.batch + case.more) if signature.apart else case
    return text | _pictures(random, case, signature.pictures)


def _text(random: np.random.Generator, case: Case, text: TextInput) -> Inputs:
    count, vocabulary = text.length or case.text, text.vocabulary or 1
    ids = random.integers(min(5, vocabulary - 1), vocabulary, (case.batch, count))
    mask = np.ones_like(ids)
    if case.padded:
        for row in range(1, case.batch, 2):
            cut = max(2, count - count // 3 - row // 2)
            absent = slice(cut, None) if text.padding == "right" else slice(count - cut)
            mask[row, absent], ids[row, absent] = 0, text.pad_id or 0
    if text.end_id is not None:
        last = mask.sum(1) - 1 if text.padding == "right" else np.full(case.batch, count - 1)
        ids[np.arange(case.batch), last] = text.end_id
    return {IDS: ids, MASK: mask} if text.masked else {IDS: ids}


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
    width = pictures.ports[0].shape[-1]
    assert isinstance(width, int)
    patches = np.zeros((count, grid.prod(1).max(), width), np.float32)
    for row, sides in zip(patches, grid, strict=True):
        own = row[: sides.prod()]
        own[:] = random.standard_normal((1, width) if case.ties else own.shape)
    if pictures.images > 1:
        patches, grid = (v.reshape(case.batch, pictures.images, *v.shape[1:]) for v in (patches, grid))
    return {PATCHES: patches, GRID: grid}


def verify_onnx(
    path: Path,
    checkpoint: Checkpoint,
    cases: Sequence[Case] | None = None,
    image_size: Any = None,
    graph: str | None = None,
    keep_float32: Sequence[str] = (),
    opened: Callable[[Path], AbstractContextManager[DecisionSession]] = open_graph,
) -> dict[str, Any]:
    """Compare the ONNX file at `path`, on ONNX Runtime's CPU (or as another runtime has `opened` it), with the eager
    model of `checkpoint` (float32 arithmetic on weights of the file's type); `default_cases` unless others are given.
    `image_size` is the one that was asked for at export, if any, `graph` the one that the file is of (None: the first),
    and `keep_float32` names the layers that stayed in float32 in it.

    Every decision of the graph must be eager's own or as good as it; then the outputs must agree when eager follows
    the same decisions. In half precision eager itself runs in that type too, beside float32 with the checkpoint's own
    weights: nothing may overflow, and the outputs must agree. Gives {"dtype": ..., "verification": {...}}; raises
    VerificationError otherwise, InputError for a file that is not one of ours. The two never stand in memory together.
    """
    signature = signature_of(checkpoint, graph, image_size)
    cases = default_cases(signature) if cases is None else cases
    with opened(path) as session:
        dtype = session.dtype
        if (pictures := signature.pictures) is not None and not pictures.packed:
            # The file is for the pictures that it was exported for, whatever the checkpoint's files say now.
            signature = replace(signature, pictures=session.signature.pictures)
        if session.signature.inputs != signature.inputs or session.signature.names != signature.names:
            raise InputError(f"{path}: it is not the graph '{signature.name}' of this checkpoint; export it once more.")
        answers = [_Answer.of(session, sample(signature, case)) for case in cases]
    del session
    trim()
    size = None if signature.pictures is None else signature.pictures.size
    network = partial(build, checkpoint, image_size if size is None else list(size))
    model = network(dtype, keep_float32)
    check = None if dtype not in HALF else _type_check(path.name, dtype, keep_float32, checkpoint, signature, answers)
    half = None if check is None else check.half(model)
    model = model.float()
    report = [
        _compare(model, signature.name, case, answer, dtype, path.name)
        for case, answer in zip(cases, answers, strict=True)
    ]
    verification: dict[str, Any] = {
        "cases": len(cases),
        "logits_error": _worst(report, dtype, path.name),
        "tolerance": TOLERANCE[dtype],
        "decisions": sum(r.decided for r in report),
        "decisions_that_differ": sum(r.differing for r in report),
        "worst_slack": max(r.slack for r in report),
    }
    if check is not None and half is not None:
        del model
        trim()
        verification["half_precision"] = check.report(network("float32"), half)
    return {"dtype": dtype, "verification": verification}


def _worst(report: Sequence["_Agreement"], dtype: str, name: str) -> float:
    """The largest difference of an output, as a share of its largest value in all cases: a single logit may be near 0
    in one. Raises VerificationError when it is not allowed."""
    worst = 0.0
    for output in report[0].outputs:
        scale = max(agreement.outputs[output][1] for agreement in report)
        for agreement in report:
            error = agreement.outputs[output][0] / max(scale, 1e-12)
            if error > TOLERANCE[dtype]:
                raise VerificationError(
                    f"{name}: the {output} differ from eager by {error:.2e} of the largest at {agreement.case}; "
                    f"{TOLERANCE[dtype]:.0e} is allowed for {dtype}."
                )
            worst = max(worst, error)
    return worst


@dataclass(frozen=True)
class _Answer:
    inputs: Inputs
    outputs: dict[str, Tensor]
    decisions: dict[str, Tensor]

    @classmethod
    def of(cls, session: DecisionSession, inputs: Inputs) -> "_Answer":
        outputs, decisions = (
            {name: torch.from_numpy(value) for name, value in part.items()} for part in session.run(inputs)
        )
        return cls(inputs, outputs, decisions)

    @property
    def size(self) -> tuple[int, int]:
        """By which batches are sorted: few examples first, then long texts."""
        ids = self.inputs.get(IDS)
        return len(next(iter(self.inputs.values()))), 0 if ids is None else -ids.shape[1]

    @property
    def finite(self) -> bool:
        """Whether all outputs are."""
        return all(bool(value.isfinite().all()) for value in self.outputs.values())


def _type_check(
    name: str,
    dtype: str,
    kept: Sequence[str],
    checkpoint: Checkpoint,
    signature: Signature,
    answers: Sequence[_Answer],
) -> TypeCheck:
    """The check of the type on one of the batches: the first whose answer is not finite, else the smallest, of the
    longest text."""
    broken = [answer for answer in answers if not answer.finite]
    chosen = (broken or sorted(answers, key=lambda answer: answer.size))[0]
    layers = family_of(checkpoint.family).spec(checkpoint.config).weights()
    given = chosen.decisions if chosen.finite else {}
    batch = Batch(signature.name, tensors(chosen.inputs, torch.float32), given, layers)
    scales = {
        name: max(max(float(answer.outputs[name].abs().max()) for answer in answers), 1e-12) for name in signature.names
    }
    return TypeCheck(name, dtype, kept, TOLERANCE[dtype], scales, batch, chosen.outputs)


@dataclass(frozen=True)
class _Agreement:
    """Of one case; `outputs` by name: the largest difference, and the largest value."""

    case: Case
    outputs: dict[str, tuple[float, float]]
    slack: float
    decided: int
    differing: int


def _compare(model: Body, graph: str, case: Case, answer: _Answer, dtype: str, name: str) -> _Agreement:
    with torch.no_grad():
        trace = Trace(answer.decisions)
        forced = model.run(graph, tensors(answer.inputs, torch.float32), trace).outputs
    for output, value in answer.outputs.items():
        if not bool(torch.isfinite(value).all()):
            raise VerificationError(f"{name}: the {output} are not finite at {case}.")
    slack = max((float(s.max()) for s in trace.slack.values()), default=0.0)
    if slack > SLACK[dtype]:
        raise VerificationError(
            f"{name}: the graph chose other tokens than eager at {case}, worse by {slack:.2e} "
            f"({SLACK[dtype]:.0e} counts as a tie)."
        )
    return _Agreement(
        case=case,
        outputs={
            output: (float((value - forced[output]).abs().max()), float(forced[output].abs().max()))
            for output, value in answer.outputs.items()
        },
        slack=slack,
        decided=sum(value.numel() for value in trace.taken.values()),
        differing=sum(trace.differing.values()),
    )
