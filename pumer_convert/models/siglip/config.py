"""What a SigLIP's config.json may say, as typed values; torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pumer_convert.models.towers import sections as towers
from pumer_convert.models.values import ACTIVATIONS, GENERAL, WHOLE, check_keys, only_architecture, wrong
from pumer_convert.rules import setting

ARCHITECTURES = {
    "SiglipModel": ("vision", "text"),
    "SiglipVisionModel": ("vision",),
    "SiglipTextModel": ("text",),
}
"""transformers' classes that are read, with the towers of each."""
WHOLE_MODEL = "SiglipModel"


@dataclass(frozen=True)
class VisionSettings(towers.SiglipPictures):
    """The tower of pictures, which has a head."""

    @classmethod
    def read(cls, values: Mapping[str, Any], where: object, prefix: str) -> Self:
        """See `PictureTower.read`."""
        found = super().read(values, where, prefix)
        if not found.vision_use_head:
            raise wrong(where, f"{prefix}vision_use_head", False, "without the head there is no embedding of a picture")
        return found


@dataclass(frozen=True)
class TextSettings(towers.TextTower):
    """The tower of texts; without a `projection_size` its embeddings are as wide as it."""

    hidden_act: str = setting("gelu_pytorch_tanh", words=ACTIVATIONS)
    layer_norm_eps: float = setting(1e-6, float)
    projection_size: int | None = setting(None, int, least=1, most=WHOLE)

    @property
    def outputs(self) -> int:
        """The width of an embedding."""
        return self.projection_size or self.hidden_size


@dataclass(frozen=True)
class SiglipSettings:
    """The values of a config; None for a tower that there is not."""

    architecture: str
    vision: VisionSettings | None
    text: TextSettings | None

    @classmethod
    def read(cls, config: Mapping[str, Any], where: object = "the model") -> "SiglipSettings":
        """The values of a config of `model_type` "siglip", of one tower too. Raises InputError, beginning with `where`,
        for a key that is not known, a value that is not allowed, and values that do not go together."""
        check_keys(config, {"vision_config", "text_config", "pumer"} | GENERAL | towers.UNREAD, where)
        architecture = only_architecture(config, ARCHITECTURES, where) or WHOLE_MODEL
        has, vision, text = ARCHITECTURES[architecture], None, None
        if "vision" in has:
            values = towers.section(config, "vision_config", "siglip_vision_model", where)
            vision = VisionSettings.read(values, where, "vision_config.")
        if "text" in has:
            values = towers.section(config, "text_config", "siglip_text_model", where)
            text = TextSettings.read(values, where, "text_config.")
        if vision is not None and text is not None and text.outputs != vision.hidden_size:
            key = "projection_size" if text.projection_size else "hidden_size"
            why = f"the embeddings of pictures have {vision.hidden_size} numbers"
            raise wrong(where, f"text_config.{key}", text.outputs, why)
        return cls(architecture, vision, text)


def checked_config(config: Mapping[str, Any], where: object) -> dict[str, Any]:
    """A config with every value in one form and transformers' defaults filled in. Raises InputError; see `read`."""
    found = SiglipSettings.read(config, where)
    parts = {"vision_config": found.vision, "text_config": found.text}
    return {
        **{key: value for key, value in config.items() if key not in parts},
        "model_type": "siglip",
        "architectures": [found.architecture],
        **{key: dict(vars(part)) for key, part in parts.items() if part is not None},
    }
