"""What batches of pictures are made for, with their captions or alone, where a tower of pictures is taught."""

from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor

from pumer_convert.tasks.base import Example, Rows


class Task(Rows):
    """A picture, and its caption if the tower is taught with those."""

    name = "a tower of pictures"

    def __init__(self, captions: bool) -> None:
        self.reads = captions

    def target(self, rows: Sequence[Example]) -> dict[str, Tensor]:
        """With captions {"picture": int64 [rows]}, a number of each row's picture: captions of one have the same."""
        if not self.reads:
            return {}
        return {"picture": torch.tensor([_number(str(row.sample.target)) for row in rows], dtype=torch.int64)}


def _number(identity: str) -> int:
    """The same in every process."""
    return int.from_bytes(blake2b(identity.encode("utf-8", "replace"), digest_size=8).digest(), signed=True)
