"""What the graphs of a model take and give, as their specs say it and as a file's own inputs tell it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.models.inputs import CHANNELS, GRID, IDS, MASK, PATCHES, PIXELS, PictureInput, Port, TextInput

LOGITS = "logits"
TEXTS, PICTURES = "text_batch", "image_batch"
"""The dynamic sides of a graph whose texts and pictures are batches of their own."""


@dataclass(frozen=True)
class Signature:
    """What one graph of a model takes and gives. `name` is the graph's; `text` and `pictures` are None where it takes
    none; `apart`: they are batches of their own, of `TEXTS` and of `PICTURES`."""

    name: str
    text: TextInput | None
    pictures: PictureInput | None
    outputs: tuple[Port, ...]
    apart: bool = False

    @property
    def inputs(self) -> tuple[Port, ...]:
        """All inputs, in their order."""
        found: list[Port] = []
        for part, batch in ((self.text, TEXTS), (self.pictures, PICTURES)):
            ports = () if part is None else part.ports
            found += (replace(port, shape=(batch, *port.shape[1:])) for port in ports) if self.apart else ports
        return tuple(found)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the outputs."""
        return tuple(port.name for port in self.outputs)

    def sides(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
        """How long the dynamic sides are, of inputs of these shapes."""
        return {
            side: shapes[port.name][place]
            for port in self.inputs
            for place, side in enumerate(port.shape)
            if isinstance(side, str)
        }

    @property
    def labels(self) -> int:
        """Number of logits. Raises InputError when the graph gives none."""
        for port in self.outputs:
            if port.name == LOGITS and isinstance(port.shape[-1], int):
                return port.shape[-1]
        raise InputError(f"the graph '{self.name}' gives {', '.join(self.names)}, and no {LOGITS}.")


def _text(shapes: Mapping[str, Sequence[int | str]], known: TextInput) -> TextInput | None:
    """How a graph with these inputs, name -> shape, takes text, as far as they tell; None when it takes none."""
    if IDS not in shapes:
        return None
    length = shapes[IDS][-1]
    fixed = length if isinstance(length, int) else None
    return replace(known, length=fixed, masked=MASK in shapes)


def _pictures(shapes: Mapping[str, Sequence[int | str]], limit: int | None) -> PictureInput | None:
    """How a graph with these inputs, name -> shape, takes pictures, None when it takes none. It does not know the patch
    of pixels, the largest picture, nor a `limit`. Raises InputError for shapes that are not ours."""
    try:
        if PIXELS in shapes:
            *pair, channels, height, width = (int(side) for side in shapes[PIXELS][1:])
            if channels == CHANNELS:
                return PictureInput.fixed(pair[0] if pair else 1, 1, (height, width))
        elif {PATCHES, GRID} <= set(shapes):
            *images, _, values = shapes[PATCHES][1:]
            side = round((int(values) / CHANNELS) ** 0.5)
            if CHANNELS * side**2 == int(values):
                return PictureInput(int(images[0]) if images else 1, side, None, 1, 1, None, limit)
        else:
            return None
    except (ValueError, TypeError):
        pass
    raise _foreign(shapes)


def signature_of(
    inputs: Mapping[str, Sequence[int | str]], outputs: Sequence[Port], sidecar: Mapping[str, Any] | None = None
) -> Signature:
    """What a graph with these `inputs`, name -> shape, and `outputs` takes and gives; its `sidecar`, if there is one,
    tells what a graph does not know of itself. Raises InputError for inputs that are not ours."""
    told = sidecar or {}
    text = _text(inputs, TextInput.of_sidecar(told) or TextInput())
    pictures = _pictures(inputs, (told.get("pictures") or {}).get("limit"))
    apart = any(shape[0] == TEXTS for shape in inputs.values())
    found = Signature(told.get("graph", "model"), text, pictures, tuple(outputs), apart)
    if not inputs or {port.name for port in found.inputs} != set(inputs):
        raise _foreign(inputs)
    return found


def _foreign(shapes: Mapping[str, Sequence[int | str]]) -> InputError:
    return InputError(f"its inputs are {', '.join(sorted(shapes))}; it was not exported by pumer-convert.")
