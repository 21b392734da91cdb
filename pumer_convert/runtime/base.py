"""What every runtime is: checked inputs in, logits out, in the kind of array that came in."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pumer_convert.errors import InputError
from pumer_convert.image_processor.patches import cut
from pumer_convert.models.inputs import GRID, PATCHES, PIXELS, TEXT, PictureInput
from pumer_convert.runtime.input_checks import (
    Array,
    TextLimits,
    all_numpy,
    check_dtypes,
    check_grid,
    check_limit,
    check_names,
    check_pictures,
    check_text,
    plain,
)

if TYPE_CHECKING:
    import torch


class Runtime(ABC):
    """Runs a model. Called with input_ids and attention_mask, int64 [B, T], and pixel_values, float32 [B, 3, H, W]
    ([B, 2, 3, H, W] for pairs of images); gives logits, float32 [B, labels].

    A model whose pictures keep their shape takes pixels of any size, the same for the whole batch; and pictures of
    several shapes as `patches` and `patch_grid`, which `Preprocessor.arrange` makes (see `PictureInput.ports`).
    All numpy in, numpy out; all torch in, torch out, on the device that they came from. `pictures` tells how it takes
    pictures, `text` what texts it takes, `device` where it runs. May be called from several threads at once; whether
    the calls overlap is up to the kind.
    """

    pictures: PictureInput
    text: TextLimits
    device: "torch.device | str"

    def __call__(
        self,
        input_ids: Array,
        attention_mask: Array,
        pixel_values: Array | None = None,
        *,
        patches: Array | None = None,
        patch_grid: Array | None = None,
    ) -> Array:
        """Logits, float32 [B, labels]. Raises InputError for inputs of a wrong kind, type, shape or value."""
        given = {TEXT[0]: input_ids, TEXT[1]: attention_mask, PIXELS: pixel_values, PATCHES: patches, GRID: patch_grid}
        given = {name: value for name, value in given.items() if value is not None}
        numpy = all_numpy(given)
        given = {name: plain(value) for name, value in given.items()}
        self._check(given)
        if self.pictures.packed and PIXELS in given:
            given |= packed(given.pop(PIXELS), self.pictures)
        return self._numpy(given) if numpy else self._torch(given)

    def _check(self, given: dict[str, Array]) -> None:
        expected = self.pictures
        if PIXELS in given and expected.packed:
            expected = _of_these(given[PIXELS], expected)
        check_names(given, expected.ports)
        check_dtypes(given, {port.name: port.dtype for port in expected.ports})
        check_text(given[TEXT[0]], given[TEXT[1]], self.text)
        check_pictures(given, expected)
        if expected.packed:
            check_grid(given[GRID], given[PATCHES].shape[-2], expected.limit)

    @abstractmethod
    def _numpy(self, given: dict[str, NDArray[Any]]) -> NDArray[np.float32]: ...

    @abstractmethod
    def _torch(self, given: "dict[str, torch.Tensor]") -> "torch.Tensor": ...


def _of_these(pixels: Array, pictures: PictureInput) -> PictureInput:
    """What pixels have to be where every size will do. Raises InputError for pictures smaller than a patch or beyond
    the model's limit."""
    height, width = (int(side) for side in pixels.shape[-2:]) if len(pixels.shape) > 1 else (0, 0)
    if min(height, width) < pictures.patch:
        raise InputError(f"pixel_values of {height}x{width} have no whole patch of {pictures.patch}x{pictures.patch}.")
    found = PictureInput.fixed(pictures.images, pictures.patch, (height, width))
    check_limit(found.usual, pictures.limit)
    return found


def packed(pixels: Array, pictures: PictureInput) -> dict[str, Array]:
    """Pixels [B, 3, H, W] or [B, 2, 3, H, W] as patches and their grid, of the same kind and on the same device."""
    sides = [int(side) // pictures.patch for side in pixels.shape[-2:]]
    if isinstance(pixels, np.ndarray):
        grid = np.broadcast_to(np.array(sides, np.int64), (*pixels.shape[:-3], 2)).copy()
        return {PATCHES: cut(pixels, pictures.patch), GRID: grid}
    import torch
    import torch.nn.functional as F

    unfolded = F.unfold(pixels.reshape(-1, *pixels.shape[-3:]), pictures.patch, stride=pictures.patch).transpose(1, 2)
    patches = unfolded.reshape(*pixels.shape[:-3], *unfolded.shape[1:])
    return {PATCHES: patches, GRID: torch.tensor(sides, device=pixels.device).repeat(*pixels.shape[:-3], 1)}
