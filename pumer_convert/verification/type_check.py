"""Whether the type of an export in half precision holds: eager in that type beside eager in float32."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from pumer_convert.errors import VerificationError
from pumer_convert.models.body import Body
from pumer_convert.verification.half_precision import Batch, HalfPass, Part, cosine

JUDGES = {
    "float16": "eager float16 and the graph, beside eager float32",
    "bfloat16": "eager bfloat16 beside eager float32 (ONNX Runtime's CPU has no bfloat16: the graph ran in float32)",
}


@dataclass(frozen=True)
class TypeCheck:
    """Of an export called `name`: eager's pass in its type on one batch, and the graph's outputs of that. `kept` are
    the layers that stay in float32, `tolerance` is the largest difference of an output allowed as a share of its
    largest value, which in all batches is in `scales`."""

    name: str
    dtype: str
    kept: Sequence[str]
    tolerance: float
    scales: Mapping[str, float]
    batch: Batch
    served: Mapping[str, Tensor]

    def half(self, model: Body) -> HalfPass:
        """Eager's pass. Raises VerificationError that names the layers in which numbers overflow; the model is in
        float32 then."""
        passed = self.batch.half(model)
        if passed.broken is not None:
            raise VerificationError(self._overflow(model, passed.broken))
        return passed

    def report(self, model: Body, half: HalfPass) -> dict[str, Any]:
        """What the type costs beside this model in float32. Raises VerificationError that names the first layer beyond
        the tolerance when the outputs are."""
        exact, layers = self.batch.drift(model, half)
        places = list(layers)
        first = next((place for place, row in layers.items() if row.drift > self.tolerance), None)
        error, output = max(
            (float((ours[name] - value).abs().max()) / self.scales[name], name)
            for ours in (half.outputs, self.served)
            for name, value in exact.items()
        )
        if error > self.tolerance:
            # What the layer before it gave was rounded on the way to it.
            near = [] if first is None else places[: places.index(first) + 1][-2:]
            where = "" if first is None else f"; {first} is the first layer to leave that"
            raise VerificationError(
                f"{self.name}: in {self.dtype} the {output} differ from float32 by {error:.2e} of the largest, and "
                f"{self.tolerance:.0e} is allowed{where}; {self._cure(near)}."
            )
        return {
            "judge": JUDGES[self.dtype],
            "cosine": min(cosine(half.outputs, exact), cosine(self.served, exact)),
            "error": error,
            "layers": {place: asdict(row) for place, row in layers.items()},
            "first_beyond_tolerance": first,
        }

    def _overflow(self, model: Body, first: Part) -> str:
        limit = torch.finfo(getattr(torch, self.dtype)).max
        beyond = self.batch.beyond(model.float(), limit)
        places = list(dict.fromkeys([first.place, *(place for place in beyond if place not in self.kept)]))
        inside = f" in {first.name}" if first.name else ""
        most = f", with numbers of up to {beyond[first.place]:.1e}{inside}" if first.place in beyond else ""
        where = f"{' and '.join(places)} leave{'s' * (len(places) == 1)}"
        return f"{self.name}: {where} the range of {self.dtype}, which ends at {limit:.5g}{most}; {self._cure(places)}."

    def _cure(self, places: Sequence[str]) -> str:
        """What to do about layers, of which those are kept in float32 that have names."""
        named = [place for place in places if place in self.batch.layers and place not in self.kept]
        other = f"export in {'bfloat16 or ' * (self.dtype == 'float16')}float32"
        if not named:
            return other
        asked = " ".join(f"--keep-float32 {place}" for place in [*self.kept, *named])
        return (
            f"keep {' and '.join(named)} in float32 ({asked}, or `export: {{keep_float32: [...]}}` in the recipe), or "
            f"{other}"
        )
