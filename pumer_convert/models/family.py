"""What a model family is, and the registry of them. A family is one folder and one line here."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pumer_convert.errors import InputError, nearest
from pumer_convert.models.rates import Rates
from pumer_convert.models.spec import ModelSpec, grid
from pumer_convert.weights import Checkpoint, RawCheckpoint

if TYPE_CHECKING:
    from torch import Tensor

    from pumer_convert.models.body import Body

FAMILIES = {
    "vilt": "pumer_convert.models.vilt",
    "meter": "pumer_convert.models.meter",
    "bridgetower": "pumer_convert.models.bridgetower",
    "vision-text-dual-encoder": "pumer_convert.models.vision_text_dual_encoder",
    "clip": "pumer_convert.models.clip",
    "clip-fdt": "pumer_convert.models.clip_fdt",
    "siglip": "pumer_convert.models.siglip",
    "dinov2": "pumer_convert.models.dinov2",
    "internvl": "pumer_convert.models.internvl",
    "llava": "pumer_convert.models.llava",
    "paligemma": "pumer_convert.models.paligemma",
    "gemma3": "pumer_convert.models.gemma3",
    "llava_onevision": "pumer_convert.models.llava_onevision",
    "idefics3": "pumer_convert.models.idefics3",
    "smolvlm": "pumer_convert.models.smolvlm",
}
"""Name -> the package whose FAMILY it is, in the order in which they are asked for a checkpoint: one that is known by a
weight which others have too stands behind them."""


@dataclass(frozen=True)
class Interpolation:
    """How a table of positions is fitted to another grid: `mode`, `align_corners` and `antialias` as torch understands
    them; the `first` rows stay as they are, 1 for CLS."""

    mode: str
    align_corners: bool = False
    first: int = 1
    antialias: bool = False


class Family(ABC):
    """All that is a model family's own. Stateless, and without torch until a network is built.

    name             as a recipe says it; config.json's "model_type".
    network          its class, "module:Class", which is imported when one is built: torch comes with it.
    known_by         names of weights by which it is known inside a larger module.
    image_processor  the class of transformers that a processor's file means when it names none.
    tokenizer        the model of transformers whose tokenizer the text has, where no file names another; None: no text.
                     See `tokenizer_of`.
    positions        the name of the image's position table; see `positions_of`.
    interpolation    how that is fitted to other images.
    image_section    the section of a config that says "image_size"; None: the config itself.
    rates            published learning rates, by task.
    heads, cross_modal
                     how the names of parameters begin that learn faster.
    generation       the module with its class of transformers that generates with a reduced vision part, `MODEL`, the
                     first words of its language model's weights, `LANGUAGE`, `count` (see models/llava/generation.py)
                     and, where no chat template says how it is asked, `prompt_of` and `INSTRUCTION` (see
                     models/paligemma/generation.py); None where there is no language model.
    choices          keys of a recipe that not every family has, with what each may say; the first is what holds where
                     it says nothing. What holds stands in config.json under "pumer", but for None.
    """

    name: ClassVar[str]
    network: ClassVar[str]
    known_by: ClassVar[tuple[str, ...]]
    image_processor: ClassVar[str]
    tokenizer: ClassVar[str | None]
    positions: ClassVar[str]
    interpolation: ClassVar[Interpolation] = Interpolation("bicubic")
    image_section: ClassVar[str | None] = None
    rates: ClassVar[Mapping[str, Rates]]
    heads: ClassVar[tuple[str, ...]]
    cross_modal: ClassVar[tuple[str, ...]] = ()
    generation: ClassVar[str | None] = None
    choices: ClassVar[Mapping[str, tuple[str | None, ...]]] = {}

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

    def build(self, config: dict[str, Any], image_size: Any = None) -> "Body":
        """The network on the current default device, without weights of its own."""
        module, _, name = self.network.partition(":")
        network: Body = getattr(importlib.import_module(module), name)(config, image_size)
        return network

    @abstractmethod
    def processor(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The processor of a checkpoint that has none."""

    def tokenizer_of(self, config: Mapping[str, Any]) -> str | None:
        """`tokenizer` of a model with this config, which may be unchecked, or say nothing."""
        return self.tokenizer

    def positions_of(self, config: Mapping[str, Any]) -> str:
        """`positions` of a model with this config."""
        return self.positions

    def plain_tokenizer(self, tokenizer: Any) -> Any:
        """A tokenizer of transformers as one of the package tokenizers, by which a served model takes texts; None where
        it cannot be one. It may refuse a text by an id that the model has not."""
        return getattr(tokenizer, "backend_tokenizer", None)

    def interpolated(self, config: Mapping[str, Any]) -> Interpolation:
        """How its table of positions is fitted to other images."""
        return self.interpolation

    def fit_positions(self, name: str, tensor: "Tensor", config: Mapping[str, Any], image_size: Any) -> "Tensor":
        """The image's position table, as `interpolated` says, for another image size S or [H, W]; other tensors as
        they are. Raises InputError for a table that is not of the config's own size."""
        if name != self.positions_of(config):
            return tensor
        from pumer_convert.models.positions import resize_table

        own = self.spec(config).pictures
        return resize_table(tensor, grid(own.size, own.patch), grid(image_size, own.patch), self.interpolated(config))

    def for_image_size(self, config: Mapping[str, Any], image_size: int | list[int]) -> dict[str, Any]:
        """The config of the same model for images S or [H, W]."""
        section = self.image_section
        if section is None:
            return {**config, "image_size": image_size}
        return {**config, section: {**config[section], "image_size": image_size}}


def family_of(name: str) -> Family:
    """A model family by its name. Raises InputError when there is none of that name."""
    if name not in FAMILIES:
        raise InputError(f"there is no model family '{name}'; known: {', '.join(FAMILIES)}.{nearest(name, FAMILIES)}")
    family: Family = importlib.import_module(FAMILIES[name]).FAMILY
    return family
