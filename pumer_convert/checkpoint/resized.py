"""A checkpoint for another image size: its position table fitted on the way, its processor told."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pumer_convert.errors import InputError
from pumer_convert.image_processor.settings import image_settings
from pumer_convert.models.family import family_of
from pumer_convert.models.spec import grid
from pumer_convert.weights import Checkpoint, TensorSource

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Fitted:
    """The tensors of another source, the one under `key` with `change`d values, a new shape and a `kind` of element;
    the `inner` one is for images of `size`, S or [H, W]."""

    inner: TensorSource
    size: int | list[int]
    key: str
    new_shape: tuple[int, ...]
    kind: str
    change: "Callable[[Tensor], Tensor]"

    def names(self) -> list[str]:
        """See `TensorSource`."""
        return self.inner.names()

    def shape(self, name: str) -> tuple[int, ...]:
        """See `TensorSource`."""
        return self.new_shape if name == self.key else self.inner.shape(name)

    def dtype(self, name: str) -> str:
        """See `TensorSource`."""
        return self.kind if name == self.key else self.inner.dtype(name)

    def files(self) -> tuple[Path, ...]:
        """See `TensorSource`."""
        return self.inner.files()

    @contextlib.contextmanager
    def reader(self) -> "Iterator[Callable[[str], Tensor]]":
        """See `TensorSource`."""
        with self.inner.reader() as read:
            yield lambda name: self.change(read(name)) if name == self.key else read(name)


def resized(checkpoint: Checkpoint, image_size: int) -> Checkpoint:
    """The checkpoint for square images of that size: the position table is interpolated as the family does it, and
    config.json and the processor's file say the new size."""
    check_image_size(image_size, checkpoint)
    changed = at_image_size(checkpoint, image_size, exact=False)
    values = _processor(checkpoint, image_size)
    return changed if values is None else changed.with_processor(values)


def at_image_size(checkpoint: Checkpoint, image_size: int | list[int], *, exact: bool = True) -> Checkpoint:
    """The checkpoint with its position table and config.json for images S or [H, W], its processor as it is.

    The table is float32 where the source has half precision, as transformers interpolates it at every call; unless
    `exact` it is rounded to what the source has.
    """
    checkpoint = as_stored(checkpoint)
    family, config = family_of(checkpoint.family), checkpoint.config
    name = family.positions_of(config)
    key = checkpoint.slices[name].key
    own = family.spec(config).pictures
    old, new = (prod(grid(size, own.patch)) for size in (own.size, image_size))
    *front, places, width = checkpoint.source.shape(key)
    kind = checkpoint.source.dtype(key)
    kind = "float32" if exact and kind in ("float16", "bfloat16") else kind

    def change(table: "Tensor") -> "Tensor":
        table = table.float() if kind == "float32" else table
        return family.fit_positions(name, table, config, image_size)

    return replace(
        checkpoint,
        config=family.for_image_size(config, image_size),
        source=Fitted(checkpoint.source, list(own.size), key, (*front, places - old + new, width), kind, change),
    )


def as_stored(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with the position table and the image size of its files: a table that was fitted before, to the
    pictures of the processor, and is fitted once more is not what transformers makes of them."""
    source = checkpoint.source
    if not isinstance(source, Fitted):
        return checkpoint
    config = family_of(checkpoint.family).for_image_size(checkpoint.config, source.size)
    return replace(checkpoint, config=config, source=source.inner)


def check_image_size(image_size: Any, checkpoint: Checkpoint) -> None:
    """Raises InputError for an image size S or [H, W] that the patches do not divide, unless it is the checkpoint's."""
    sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    own = family_of(checkpoint.family).spec(checkpoint.config).pictures
    if sides == own.size:
        return
    patch = own.patch
    if len(sides) != 2 or any(side < patch or side % patch for side in sides):
        raise InputError(
            f"an image of {'x'.join(map(str, sides))} pixels is not a whole number of {patch}-pixel patches."
        )


def _processor(checkpoint: Checkpoint, new: int) -> dict[str, Any] | None:
    """The processor's values, if there are any, with the sizes in them changed in proportion, so that the shorter side
    of what it makes becomes `new`."""
    values = checkpoint.processor
    if values is None:
        return None
    family = family_of(checkpoint.family)
    settings = image_settings(values, family.image_processor)
    side = settings.shorter if settings.size is None else min(settings.size)
    side = side or min(family.spec(checkpoint.config).pictures.size)

    def scaled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: scaled(part) for key, part in value.items()}
        if isinstance(value, list):
            return [scaled(part) for part in value]
        return round(value * new / side) if isinstance(value, int) else value

    sizes = ("size", "crop_size", "max_image_size", "image_grid_pinpoints")
    return values | {name: scaled(values[name]) for name in sizes if name in values}
