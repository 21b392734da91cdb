"""What every runtime is: checked inputs in, outputs out, in the kind of array that came in."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pumer_convert.errors import InputError
from pumer_convert.image_processor.patches import cut
from pumer_convert.models.inputs import GRID, PATCHES, PIXELS, PictureInput, TextInput
from pumer_convert.models.signature import Signature
from pumer_convert.runtime.input_checks import (
    Array,
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
    """Runs one graph of a model; `signature` says what it takes and gives, `device` where it runs.

    `largest_batch` is the most examples of a call, None where there is no limit.

    Called with the graph's inputs, by name or in their order: input_ids and attention_mask, int64 [B, T], and
    pixel_values, float32 [B, 3, H, W] ([B, 2, 3, H, W] for pairs of images); gives its one output, such as logits,
    float32 [B, labels], or all of them by name where there are several.

    A model whose pictures keep their shape takes pixels of any size, the same for the whole batch; and pictures of
    several shapes as `patches` and `patch_grid`, which `Preprocessor.arrange` makes (see `PictureInput.ports`).
    All numpy in, numpy out; all torch in, torch out, on the device that they came from. May be called from several
    threads at once; whether the calls overlap is up to the kind.
    """

    signature: Signature
    device: "torch.device | str"
    largest_batch: int | None = None

    @property
    def pictures(self) -> PictureInput:
        """How it takes pictures. Raises InputError when it takes none."""
        if self.signature.pictures is None:
            raise InputError(f"the graph '{self.signature.name}' takes no pictures.")
        return self.signature.pictures

    @property
    def text(self) -> TextInput:
        """How it takes texts. Raises InputError when it takes none."""
        if self.signature.text is None:
            raise InputError(f"the graph '{self.signature.name}' takes no text.")
        return self.signature.text

    def __call__(self, *ordered: Array | None, **named: Array | None) -> Array:
        """The output, or a dict of the outputs. Raises InputError for inputs of a wrong kind, type, shape or value."""
        outputs = self.run(self._by_name(ordered, named))
        return outputs if len(outputs) > 1 else next(iter(outputs.values()))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name, of inputs by name; else as when it is called."""
        numpy = all_numpy(inputs)
        given = {name: plain(value) for name, value in inputs.items()}
        self._check(given)
        pictures = self.signature.pictures
        if pictures is not None and pictures.packed and PIXELS in given:
            given |= packed(given.pop(PIXELS), pictures)
        return self._numpy(given) if numpy else self._torch(given)

    def _by_name(self, ordered: Sequence[Array | None], named: Mapping[str, Array | None]) -> dict[str, Array]:
        names = [port.name for port in self.signature.inputs]
        if self.signature.pictures is not None and self.signature.pictures.packed:
            names = [PIXELS if name == PATCHES else name for name in names if name != GRID]
        if len(ordered) > len(names):
            raise InputError(f"{len(ordered)} inputs are given, and the model takes {', '.join(names)}.")
        given = dict(zip(names, ordered, strict=False))
        if twice := given.keys() & named.keys():
            raise InputError(f"{', '.join(sorted(twice))} is given twice.")
        return {name: value for name, value in {**given, **named}.items() if value is not None}

    def _check(self, given: dict[str, Array]) -> None:
        expected = self.signature
        if PIXELS in given and expected.pictures is not None and expected.pictures.packed:
            expected = replace(expected, pictures=_of_these(given[PIXELS], expected.pictures))
        check_names(given, expected.inputs)
        check_dtypes(given, {port.name: port.dtype for port in expected.inputs})
        if expected.text is not None:
            check_text(given, expected.text)
        if (pictures := expected.pictures) is not None:
            first = pictures.ports[0] if expected.apart else expected.inputs[0]
            rows = given[first.name].shape
            check_pictures(given, pictures, int(rows[0]) if len(rows) else 0)
            if pictures.packed:
                check_grid(given[GRID], given[PATCHES].shape[-2], pictures.limit)

    def _empty(self, given: "Mapping[str, torch.Tensor]", device: "torch.device | str") -> "dict[str, torch.Tensor]":
        """Tensors on a device for the outputs of these inputs, by name, to be written into."""
        import torch

        sides = self.signature.sides({name: tuple(value.shape) for name, value in given.items()})
        return {
            port.name: torch.empty(port.sized(sides), dtype=getattr(torch, port.dtype), device=device)
            for port in self.signature.outputs
        }

    @abstractmethod
    def _numpy(self, given: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]: ...

    @abstractmethod
    def _torch(self, given: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]": ...


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
