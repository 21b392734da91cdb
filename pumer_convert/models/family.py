"""What a model family is, and the registry of them. A family is one folder and one line here."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pumer_convert.errors import InputError, nearest
from pumer_convert.models.rates import Rates
from pumer_convert.models.spec import ModelSpec
from pumer_convert.weights import Checkpoint, RawCheckpoint

if TYPE_CHECKING:
    from torch import Tensor

    from pumer_convert.models.body import Body

FAMILIES = {
    "vilt": "pumer_convert.models.vilt",
    "meter": "pumer_convert.models.meter",
    "bridgetower": "pumer_convert.models.bridgetower",
    "clip": "pumer_convert.models.clip",
    "siglip": "pumer_convert.models.siglip",
}
"""Name -> the package whose FAMILY it is."""


class Family(ABC):
    """All that is a model family's own. Stateless, and without torch until a network is built.

    name             as a recipe says it; config.json's "model_type".
    known_by         names of weights by which it is known inside a larger module.
    image_processor  the class of transformers that a processor's file means when it names none.
    tokenizer        the model of transformers whose tokenizer the text has, where no file names another.
    positions        the name of the image's position table.
    rates            published learning rates, by task.
    heads, cross_modal
                     how the names of parameters begin that learn faster.
    """

    name: ClassVar[str]
    known_by: ClassVar[tuple[str, ...]]
    image_processor: ClassVar[str]
    tokenizer: ClassVar[str]
    positions: ClassVar[str]
    rates: ClassVar[Mapping[str, Rates]]
    heads: ClassVar[tuple[str, ...]]
    cross_modal: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def recognise(self, raw: RawCheckpoint) -> Checkpoint | None:
        """The checkpoint in the one form, None when it is not of this family. Raises InputError for a format of the
        family that is not read."""

    @abstractmethod
    def checked(self, config: Mapping[str, Any], where: object) -> dict[str, Any]:
        """A config.json with every value checked and in one form. Raises InputError, beginning with `where`."""

    @abstractmethod
    def spec(self, config: Mapping[str, Any], image_size: Any = None) -> ModelSpec:
        """Layers, costs and graphs; `image_size` S or [H, W] instead of the checkpoint's own."""

    @abstractmethod
    def build(self, config: dict[str, Any], image_size: Any = None) -> "Body":
        """The network on the current default device, without weights of its own."""

    @abstractmethod
    def processor(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The processor of a checkpoint that has none."""

    @abstractmethod
    def fit_positions(self, name: str, tensor: "Tensor", config: Mapping[str, Any], image_size: Any) -> "Tensor":
        """The image's position table for another image size S or [H, W]; other tensors as they are."""

    def for_image_size(self, config: Mapping[str, Any], image_size: int | list[int]) -> dict[str, Any]:
        """The config of the same model for images S or [H, W]."""
        return {**config, "image_size": image_size}


def family_of(name: str) -> Family:
    """A model family by its name. Raises InputError when there is none of that name."""
    if name not in FAMILIES:
        raise InputError(f"there is no model family '{name}'; known: {', '.join(FAMILIES)}.{nearest(name, FAMILIES)}")
    family: Family = importlib.import_module(FAMILIES[name]).FAMILY
    return family
