"""The teacher's answers on disk, so that each sample asks it once, in this training and in those that follow."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pumer_convert.errors import InputError


class TeacherCache:
    """Answers [samples, width], logits or embeddings, float32 in a memory-mapped .npy file, and beside it a byte per
    sample: is it there?

    Both files are as long as they will ever be from the start: a disk that is full shows itself then, and not as a
    crash in the middle of a write. Several processes may fill it at once, for they write different rows.
    """

    def __init__(self, folder: Path, key: str, samples: int, width: int) -> None:
        self.file = folder / f"teacher-{key[:32]}.npy"
        self.answers = _mapped(self.file, (samples, width), np.float32)
        self.known = _mapped(self.file.with_suffix(".known.npy"), (samples,), np.uint8)

    def missing(self, indices: Sequence[int]) -> list[int]:
        """The places in `indices` of the samples that are not there yet."""
        return [place for place, index in enumerate(indices) if not self.known[index]]

    def read(self, indices: Sequence[int]) -> Tensor:
        """Answers [len(indices), width] on the CPU."""
        return torch.from_numpy(self.answers[list(indices)])

    def write(self, indices: Sequence[int], answers: Tensor) -> None:
        """Keep the answers to these samples. A sample is marked behind its row: one that breaks off is made again."""
        self.answers[list(indices)] = answers.detach().float().cpu().numpy()
        self.known[list(indices)] = 1

    def describe(self, what: dict[str, object]) -> None:
        """Say beside the file, for people, what the answers are of."""
        self.file.with_suffix(".json").write_text(json.dumps(what, indent=2) + "\n")


def _mapped(file: Path, shape: tuple[int, ...], kind: type) -> np.ndarray:
    if not file.exists():
        partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            np.lib.format.open_memmap(partial, mode="w+", dtype=kind, shape=shape).flush()
            with partial.open("r+b") as stream:
                os.posix_fallocate(stream.fileno(), 0, partial.stat().st_size)
            if file.exists():  # another process was first
                partial.unlink()
            else:
                partial.replace(file)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise InputError(f"{file}: the teacher's answers cannot be kept there ({error.strerror}).") from None
    try:
        found: np.ndarray = np.lib.format.open_memmap(file, mode="r+")
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: not a whole cache of answers ({error}); delete it.") from None
    if found.shape != shape or found.dtype != kind:
        raise InputError(f"{file}: a cache of {found.shape}, not of {shape}; delete it.")
    return found
