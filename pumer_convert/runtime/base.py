"""What every runtime is: checked inputs in, logits out, in the kind of array that came in."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pumer_convert.errors import InputError

if TYPE_CHECKING:
    import torch

Array = Any
"""A numpy array or a torch tensor."""
INPUTS = {"input_ids": "int64", "attention_mask": "int64", "pixel_values": "float32"}


class Runtime(ABC):
    """Runs a model. Called with input_ids and attention_mask, int64 [B, T], and pixel_values, float32 [B, 3, H, W]
    ([B, 2, 3, H, W] for pairs of images); gives logits, float32 [B, labels].

    All numpy in, numpy out; all torch in, torch out, on the device that they came from. `picture` is the shape of one
    example's pixels, `device` where it runs. May be called from several threads at once; whether the calls overlap is
    up to the kind.
    """

    picture: tuple[int, ...]
    device: "torch.device | str"

    def __call__(self, input_ids: Array, attention_mask: Array, pixel_values: Array) -> Array:
        """Logits, float32 [B, labels]. Raises InputError for inputs of a wrong kind, type or shape."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "pixel_values": pixel_values}
        numpy = all(isinstance(value, np.ndarray) for value in given.values())
        if not numpy and not all(type(value).__module__.startswith("torch") for value in given.values()):
            kinds = ", ".join(sorted({type(value).__name__ for value in given.values()}))
            raise InputError(f"inputs are numpy arrays or torch tensors, all of one kind, not {kinds}.")
        self._check(given)
        return self._numpy(given) if numpy else self._torch(given)

    def _check(self, given: dict[str, Array]) -> None:
        for name, dtype in INPUTS.items():
            found = str(given[name].dtype).removeprefix("torch.")
            if found != dtype:
                raise InputError(f"{name} is {found}; it has to be {dtype}.")
        ids, mask, pixels = (tuple(given[name].shape) for name in INPUTS)
        if len(ids) != 2 or 0 in ids or mask != ids:
            raise InputError(f"input_ids and attention_mask are both [batch, text], not {list(ids)} and {list(mask)}.")
        if pixels != (ids[0], *self.picture):
            raise InputError(f"pixel_values has to be {[ids[0], *self.picture]} here, not {list(pixels)}.")

    @abstractmethod
    def _numpy(self, given: dict[str, NDArray[Any]]) -> NDArray[np.float32]: ...

    @abstractmethod
    def _torch(self, given: "dict[str, torch.Tensor]") -> "torch.Tensor": ...
