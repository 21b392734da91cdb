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

    `scores` are those by which image tokens can be pruned there, with what each costs; paid only when they are.
    `modalities` are those that run through it; `depth` is its number in its stack of layers over the layers of that;
    `width` and `key_width` are those of its hidden states and attention heads.
    """

    name: str
    cost: Cost
    site: str | None = None
    scores: Mapping[str, Cost] = field(default_factory=dict)
    modalities: tuple[str, ...] = ("image", "text")
    depth: float = 0.0
    width: int = 0
    key_width: int = 0


@dataclass(frozen=True)
class ModelSpec:
    """A model as layers in the order they run. `images_per_example`: forward passes per example (2 for image pairs).

    `max_text` is the longest text, `vocabulary` the number of ids that the text's table has.
    """

    image_tokens: int
    layers: tuple[Layer, ...]
    images_per_example: int
    head: int
    max_text: int
    vocabulary: int

    @property
    def sites(self) -> tuple[str, ...]:
        """Every site, in order."""
        return tuple(layer.site for layer in self.layers if layer.site is not None)

    @property
    def guided(self) -> tuple[str, ...]:
        """The sites where the text has met the image."""
        return tuple(layer.site for layer in self.layers if layer.site is not None and "relevance" in layer.scores)


class Family(Protocol):
    """What the module of a model family offers; see `pumer_convert.models.FAMILIES`.

    recognise(raw: RawCheckpoint) -> Checkpoint | None     its formats
    checked(config, where) -> dict[str, Any]               a config.json with every value checked and in one form
    spec(config, image_size=None) -> ModelSpec             without torch
    build(config, image_size=None) -> nn.Module            the network, on the current default device
    IMAGE_PROCESSOR: str                                   the class of a processor's file that names none
    processor(config) -> dict[str, Any]                    the processor of a checkpoint that has none
    KNOWN_BY: tuple[str, ...]                              weights by which it is known inside a larger module
    POSITIONS: str                                         the name of the image's position table
    TOKENIZER: str                                         the model of transformers whose tokenizer the text has
    RATES: dict[str, Rates]                                published learning rates by task
    HEADS, CROSS_MODAL: tuple[str, ...]                    how the names of parameters begin that learn faster
    KEEPS_SHAPE: bool                                      whether pictures of several shapes can be in one batch
    fit_positions(name, tensor, config, image_size)        that table for another image size, other tensors as they are
    """


def grid(image_size: object, patch: int) -> tuple[int, int]:
    """Rows and columns of patches of an image size given as S or [H, W]."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)  # type: ignore[arg-type]
    return int(height) // patch, int(width) // patch
