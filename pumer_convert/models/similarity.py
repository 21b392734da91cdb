"""How a model of two towers scores a picture beside a text: by the cosine of their embeddings."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SCALE, BIAS = "logit_scale", "logit_bias"
"""The weights that turn a cosine into a logit, by transformers' names."""
SCORES = ("softmax", "sigmoid")


@dataclass(frozen=True)
class Similarity:
    """exp(`logit_scale`) * cosine + `logit_bias` is the logit of a picture and a text, as in transformers'
    logits_per_image; a "softmax" over the texts or a "sigmoid" of each makes `scores` of them."""

    scores: str
    logit_scale: float
    logit_bias: float = 0.0

    @classmethod
    def of_sidecar(cls, values: Mapping[str, Any]) -> "Similarity | None":
        """As the sidecar of an exported file tells it; None for a model that compares nothing, and for one that was
        exported before sidecars told."""
        told = values.get("similarity")
        return None if told is None else cls(**{name: told[name] for name in ("scores", SCALE, BIAS)})

    def to_sidecar(self) -> dict[str, Any]:
        """What a sidecar tells of it."""
        return asdict(self)

    def logits(self, cosines: NDArray[Any]) -> NDArray[np.float64]:
        """The logits of cosines, of any shape; an infinity where the scale is beyond all numbers."""
        with np.errstate(over="ignore"):
            found: NDArray[np.float64] = np.exp(np.float64(self.logit_scale)) * cosines + self.logit_bias
        return found


def is_similarity(told: Any) -> bool:
    """Whether that is what `to_sidecar` writes."""
    if not isinstance(told, Mapping) or told.get("scores") not in SCORES:
        return False
    return all(type(told.get(name)) in (int, float) and math.isfinite(told[name]) for name in (SCALE, BIAS))
