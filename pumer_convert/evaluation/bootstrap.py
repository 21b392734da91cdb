"""How sure a mean is: intervals by resampling."""

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 10_000
LEVEL = 0.95
BLOCK = 2**22
"""Numbers that are drawn at once, so that memory stays small."""


def interval(
    values: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean of `values` (Efron 1979): (low, high).

    Of paired differences, one per example, it is the paired bootstrap interval of the difference of two means.
    Examples are drawn one by one, so they should be independent of each other.
    """
    distinct, counts = np.unique(np.asarray(values, np.float64), return_counts=True)
    total = int(counts.sum())
    if total == 0:
        return 0.0, 0.0
    if len(distinct) == 1:
        return float(distinct[0]), float(distinct[0])
    # Drawing `total` examples with replacement means drawing how often each distinct value comes: a multinomial. A
    # metric has few distinct values, so this costs far less than drawing every example, and is exactly the same.
    random = np.random.default_rng(seed)
    rows = max(1, BLOCK // len(distinct))
    means = [
        random.multinomial(total, counts / total, min(rows, resamples - start)) @ distinct / total
        for start in range(0, resamples, rows)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
