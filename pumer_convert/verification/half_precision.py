"""What half precision costs: a model in it beside the same in float32, layer by layer, with the same decisions."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from pumer_convert.models.body import Body
from pumer_convert.reducers.site import Trace

TINY = 1e-12


@dataclass(frozen=True)
class Part:
    """A module of a network: the layer that it belongs to (None: to none), its name there, and whether it has weights
    of its own."""

    layer: str | None
    name: str
    weighs: bool

    @property
    def place(self) -> str:
        """What a report calls it: its layer, or where it stands in the network."""
        return self.layer or self.name


@dataclass(frozen=True)
class Drift:
    """Of all that the modules of a layer give: the largest difference to float32, as a share of the module's largest
    value, and the largest value in float32."""

    drift: float
    largest: float


@dataclass(frozen=True)
class HalfPass:
    """A pass in half precision: its `outputs` by name, what the modules gave, in their order, and the one whose numbers
    were no longer finite (None: all were)."""

    outputs: dict[str, Tensor]
    seen: list[tuple[Part, list[Tensor]]]
    broken: Part | None


@dataclass(frozen=True)
class Batch:
    """A batch for one `graph` of a model: its `inputs`, in float32, and the decisions that are `given`. `layers` says
    how the names of the parameters of every layer begin (see `ModelSpec.weights`)."""

    graph: str
    inputs: Mapping[str, Tensor]
    given: Mapping[str, Tensor]
    layers: Mapping[str, tuple[str, ...]]

    def half(self, model: Body) -> HalfPass:
        """The pass of a model in half precision; it ends being looked at where numbers are no longer finite."""
        seen: list[tuple[Part, list[Tensor]]] = []
        broken: list[Part] = []

        def see(part: Part, taken: list[Tensor], result: list[Tensor]) -> None:
            if broken:
                return
            if not _finite(taken):  # what was made of the results of the module before it
                broken.append(seen[-1][0] if seen else part)
            elif not _finite(result):
                broken.append(part)
            seen.append((part, result))

        with _plain_attention():
            outputs = self._run(model, see)
        return HalfPass(outputs, seen, broken[0] if broken else None)

    def drift(self, model: Body, half: HalfPass) -> tuple[dict[str, Tensor], dict[str, Drift]]:
        """The outputs of the model in float32, and how far the pass in half precision is from it in each layer."""
        rows: dict[str, Drift] = {}
        ours = iter(half.seen)

        def see(part: Part, taken: list[Tensor], result: list[Tensor]) -> None:
            for value, exact in zip(next(ours)[1], result, strict=True):
                if exact.numel():
                    before, largest = rows.get(part.place, Drift(0.0, 0.0)), _largest(exact)
                    drift = _largest(value.float() - exact) / max(largest, TINY)
                    rows[part.place] = Drift(max(before.drift, drift), max(before.largest, largest))

        return self._run(model, see), rows

    def beyond(self, model: Body, limit: float) -> dict[str, float]:
        """The layers in which a module with weights gives numbers beyond a `limit`, each with the largest of all that
        its modules give; for a model in float32."""
        rows: dict[str, float] = {}
        named = set()

        def see(part: Part, taken: list[Tensor], result: list[Tensor]) -> None:
            most = max((_largest(value) for value in result if value.numel()), default=0.0)
            rows[part.place] = max(rows.get(part.place, 0.0), most)
            if part.weighs and part.layer is not None and most > limit:
                named.add(part.place)

        self._run(model, see)
        return {place: most for place, most in rows.items() if place in named}

    def _run(self, model: Body, see: "See") -> dict[str, Tensor]:
        dtype = model.dtype
        given = {name: value.to(dtype) if value.is_floating_point() else value for name, value in self.inputs.items()}
        with torch.no_grad(), _watched(model, self._part, see):
            outputs = model.run(self.graph, given, Trace(self.given)).outputs
        return {name: value.float() for name, value in outputs.items()}

    def _part(self, path: str, module: nn.Module) -> Part:
        weighs = next(module.parameters(recurse=False), None) is not None
        for layer, starts in self.layers.items():
            for start in starts:
                if f"{path}.".startswith(start):
                    return Part(layer, path.removeprefix(start.rstrip(".")).lstrip("."), weighs)
        return Part(None, path, weighs)


See = Callable[[Part, list[Tensor], list[Tensor]], None]
"""Told of a module that has run, of the numbers that went in and of those that came out."""


@contextlib.contextmanager
def _watched(model: Body, part_of: Callable[[str, nn.Module], Part], see: See) -> Iterator[None]:
    def hook(part: Part) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, taken, result: see(part, _numbers(taken), _numbers(result))

    parts = [(part_of(path, module), module) for path, module in model.named_modules() if path]
    # What only holds others, in no layer, gives nothing of its own.
    handles = [module.register_forward_hook(hook(part)) for part, module in parts if part.layer or part.weighs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Inside, attention is the products and the softmax that a graph has, in its type; torch's own kernels go beyond
    it, and would not overflow."""
    # These settings are of CPUs as well.
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()  # type: ignore[no-untyped-call]
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)


def _numbers(values: Any) -> list[Tensor]:
    """The tensors of numbers among a module's arguments or results; of tokens, their states."""
    values = values if isinstance(values, tuple) else (values,)
    found = (value if isinstance(value, Tensor) else getattr(value, "states", None) for value in values)
    return [value for value in found if isinstance(value, Tensor) and value.is_floating_point()]


def _finite(values: list[Tensor]) -> bool:
    return all(bool(value.isfinite().all()) for value in values)


def _largest(values: Tensor) -> float:
    return float(values.abs().max())


def cosine(outputs: Mapping[str, Tensor], exact: Mapping[str, Tensor]) -> float:
    """The least cosine of an example's outputs with those in float32."""
    pairs = ((outputs[name].flatten(1).double(), value.flatten(1).double()) for name, value in exact.items())
    return min(float(F.cosine_similarity(ours, theirs).min()) for ours, theirs in pairs)
