"""Real examples as the inputs of an exported model, all in one array each."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pumer_convert.data.formats import read_samples
from pumer_convert.data.preprocess import Preprocessor
from pumer_convert.errors import InputError
from pumer_convert.image_processor.open_picture import MAX_PIXELS


def read_examples(
    sidecar: Mapping[str, Any],
    folder: Path,
    data: Path | str,
    count: int,
    *,
    images: Path | str | None = None,
    split: str | None = None,
    seed: int = 0,
    on_error: str = "raise",
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, NDArray[Any]]:
    """`count` samples of a data set, drawn at random, as an exported model takes them, by its `sidecar` and the
    tokenizer in `folder`: input_ids, attention_mask int64 [N, T], and pictures as `Preprocessor.arrange` gives them.

    `progress` hears of texts that were cut. Raises InputError for data that cannot be read or are fewer, and pictures
    of more than `max_pixels`.
    """
    preprocessor = Preprocessor.of_sidecar(sidecar, folder)
    samples = read_samples(
        data, sidecar["task"], images=images, split=split, on_error=on_error, max_pixels=max_pixels
    ).samples
    if len(samples) < count:
        raise InputError(f"{data}: holds {len(samples)} samples, fewer than the {count} asked for.")
    drawn = [samples[i] for i in np.random.default_rng(seed).permutation(len(samples))[:count]]
    if cut := preprocessor.cut([sample.text for sample in drawn]):
        progress(f"note: {cut}")
    words = preprocessor.words([sample.text for sample in drawn])
    pictures = [[preprocessor.pixels(p.open(), name=p.name) for p in sample.pictures] for sample in drawn]
    return words | preprocessor.arrange(pictures)
