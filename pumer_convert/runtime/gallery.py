"""The rows of a gallery of embeddings that are nearest to one, a block at a time: the gallery may be larger than the
memory."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pumer_convert.errors import InputError

BLOCK = 2**22
"""Numbers that are compared at once."""

Gallery = NDArray[Any] | Path | str
"""Embeddings [N, D], or the .npy file that holds them, which is mapped and not read."""


def nearest_rows(query: NDArray[np.float32], gallery: Gallery, k: int) -> list[tuple[int, float]]:
    """The `k` rows (fewer, of a smaller gallery) of the greatest cosine with `query` [D], and that cosine, greatest
    first; of equal ones the first. Raises InputError for what is no gallery of such embeddings."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InputError(f"k is how many rows are to be found, a whole number from 1, not {k!r}.")
    rows = _opened(gallery)
    if rows.ndim != 2 or rows.dtype.kind != "f" or rows.shape[1] != len(query) or not len(rows):
        raise InputError(
            f"the gallery is {rows.dtype} {list(rows.shape)}; embeddings to compare with the query's are one row or "
            f"more of floats [N, {len(query)}]."
        )
    direction = query.astype(np.float64) / max(float(np.linalg.norm(query)), 1e-30)
    cosines = np.empty(len(rows))
    count = max(1, BLOCK // len(query))
    for start in range(0, len(rows), count):
        block = np.asarray(rows[start : start + count], np.float64)
        cosines[start : start + count] = block @ direction / np.maximum(np.linalg.norm(block, axis=1), 1e-30)
    if not np.isfinite(cosines).all():
        raise InputError(f"the gallery's row {int(np.argmin(np.isfinite(cosines)))} holds a NaN or an infinity.")
    order = np.argsort(-cosines, kind="stable")[:k]
    return [(int(row), float(cosines[row])) for row in order]


def _opened(gallery: Gallery) -> NDArray[Any]:
    if isinstance(gallery, np.ndarray):
        return gallery
    if not isinstance(gallery, Path | str):
        raise InputError(f"a gallery is a numpy array or a .npy file, not a {type(gallery).__name__}.")
    try:
        found: Any = np.load(gallery, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{gallery}: cannot be read as an array of numpy ({error}).") from None
    if not isinstance(found, np.ndarray):
        raise InputError(f"{gallery}: several arrays; save the embeddings alone, by numpy.save.")
    return found
