"""What every runtime is: checked inputs in, logits out, in the kind of array that came in."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pumer_convert.runtime.checks import Array, TextLimits, all_numpy, check_dtypes, check_pixels, check_text, plain

if TYPE_CHECKING:
    import torch

INPUTS = {"input_ids": "int64", "attention_mask": "int64", "pixel_values": "float32"}


class Runtime(ABC):
    """Runs a model. Called with input_ids and attention_mask, int64 [B, T], and pixel_values, float32 [B, 3, H, W]
    ([B, 2, 3, H, W] for pairs of images); gives logits, float32 [B, labels].

    All numpy in, numpy out; all torch in, torch out, on the device that they came from. `picture` is the shape of one
    example's pixels, `text` what texts the model takes, `device` where it runs. May be called from several threads at
    once; whether the calls overlap is up to the kind.
    """

    picture: tuple[int, ...]
    text: TextLimits
    device: "torch.device | str"

    def __call__(self, input_ids: Array, attention_mask: Array, pixel_values: Array) -> Array:
        """Logits, float32 [B, labels]. Raises InputError for inputs of a wrong kind, type or shape, for ids that the
        model has not, texts that are too long or not padded on the right, and pixels that are not finite.

        Arrays may lie in memory as they like, mirrored or read-only.
        """
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "pixel_values": pixel_values}
        numpy = all_numpy(given)
        self._check(given)
        given = {name: plain(value) for name, value in given.items()}
        return self._numpy(given) if numpy else self._torch(given)

    def _check(self, given: dict[str, Array]) -> None:
        check_dtypes(given, INPUTS)
        check_text(given["input_ids"], given["attention_mask"], self.text)
        check_pixels(given["pixel_values"], (len(given["input_ids"]), *self.picture))

    @abstractmethod
    def _numpy(self, given: dict[str, NDArray[Any]]) -> NDArray[np.float32]: ...

    @abstractmethod
    def _torch(self, given: "dict[str, torch.Tensor]") -> "torch.Tensor": ...
