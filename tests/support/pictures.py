"""Pictures for tests."""

from pathlib import Path

import numpy as np
from PIL import Image


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture that no filter or crop leaves alone."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (7, 5, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def picture(file: Path, seed: int = 0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    noise(64, 48, seed).save(file)
    return file
