"""What planning needs to know of a model: its sites and what each costs, without torch and without weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Lengths:
    """Tokens of each modality, CLS included."""

    image: int
    text: int


Cost = Callable[[Lengths, Lengths], int]
"""Multiply-accumulates of a layer, from the lengths that enter it and the lengths after its reduction."""


@dataclass(frozen=True)
class Layer:
    """One layer. `site` is the name a recipe uses for it, None where nothing can be reduced.

    `scores` is what scoring the image tokens costs there, by the name of the score; paid only when they are pruned
    by it.
    """

    name: str
    cost: Cost
    site: str | None = None
    scores: Mapping[str, Cost] = field(default_factory=dict)


@dataclass(frozen=True)
class Outline:
    """A model as layers in the order they run. `passes`: forward passes per example (2 for image pairs).

    `width` is the size of a hidden state, `key_width` of one attention head; `max_text` the longest text.
    """

    image_tokens: int
    layers: tuple[Layer, ...]
    passes: int
    head: int
    width: int
    key_width: int
    max_text: int

    @property
    def sites(self) -> tuple[str, ...]:
        """Every site, in order."""
        return tuple(layer.site for layer in self.layers if layer.site is not None)


class Family(Protocol):
    """What the module of a model family offers; see `pumer_convert.models.FAMILIES`.

    recognise(raw: RawCheckpoint) -> Checkpoint | None     its formats
    outline(config, image_size=None) -> Outline            without torch
    build(config, image_size=None) -> nn.Module            the network, on the current default device
    fit_positions(name, tensor, config, image_size)        a position table for another image size
    """


def grid(image_size: object, patch: int) -> tuple[int, int]:
    """Rows and columns of patches of an image size given as S or [H, W]."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)  # type: ignore[arg-type]
    return int(height) // patch, int(width) // patch
