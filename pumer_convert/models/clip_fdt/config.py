"""What the config.json of a CLIP+FDT may say, as typed values; torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from pumer_convert.models.towers import sections as towers
from pumer_convert.models.towers.sections import ClipPictures
from pumer_convert.models.towers.settings import Codebook
from pumer_convert.models.values import ACTIVATIONS, GENERAL, WHOLE, check_keys, only_architecture, read_values, section
from pumer_convert.rules import setting

MODEL_TYPE = "clip-fdt"
ARCHITECTURES = {"ClipFdt": ("vision", "text")}


@dataclass(frozen=True)
class TextSettings(towers.TextTower):
    """The tower of texts: CLIP's, whose words have one for masks before those that begin and end a text."""

    vocab_size: int = setting(49409, int, least=1, most=WHOLE)
    hidden_size: int = setting(512, int, least=1, most=WHOLE)
    intermediate_size: int = setting(2048, int, least=1, most=WHOLE)
    num_attention_heads: int = setting(8, int, least=1, most=WHOLE)
    max_position_embeddings: int = setting(77, int, least=2, most=WHOLE)
    hidden_act: str = setting("quick_gelu", words=ACTIVATIONS)

    @property
    def end(self) -> int:
        """The id that ends texts."""
        return self.vocab_size - 1


@dataclass(frozen=True)
class FdtSettings:
    """The values of a config."""

    vision: ClipPictures
    text: TextSettings
    codebook: Codebook

    @classmethod
    def read(cls, config: Mapping[str, Any], where: object = "the model") -> "FdtSettings":
        """The values of a config. Raises InputError, beginning with `where`, for a key that is not known and a value
        that is not allowed."""
        names = ("vision_config", "text_config", "fdt_config")
        check_keys(config, {*names, "pumer"} | GENERAL, where)
        only_architecture(config, ARCHITECTURES, where)
        vision, text, codebook = (section(config, name, where) for name in names)
        check_keys(codebook, {field.name for field in fields(Codebook)}, where, "fdt_config.")
        return cls(
            ClipPictures.read(vision, where, "vision_config."),
            TextSettings.read(text, where, "text_config."),
            Codebook(**read_values(Codebook, codebook, where, "fdt_config.")),
        )

    def plain(self) -> dict[str, Any]:
        """The values as they stand in config.json."""
        return {
            "model_type": MODEL_TYPE,
            "architectures": [*ARCHITECTURES],
            "vision_config": dict(vars(self.vision)),
            "text_config": dict(vars(self.text)),
            "fdt_config": dict(vars(self.codebook)),
        }


def checked_config(config: Mapping[str, Any], where: object) -> dict[str, Any]:
    """A config with every value in one form. Raises InputError; see `read`."""
    return {**config, **FdtSettings.read(config, where).plain()}
