"""What a CLIP's config.json may say, as typed values; torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from pumer_convert.models.towers import sections as towers
from pumer_convert.models.towers.sections import ClipPictures
from pumer_convert.models.values import (
    ACTIVATIONS,
    GENERAL,
    WHOLE,
    check_keys,
    only_architecture,
    read_values,
    wrong,
)
from pumer_convert.rules import setting

ARCHITECTURES = {
    "CLIPModel": ("vision", "text"),
    "CLIPVisionModelWithProjection": ("vision",),
    "CLIPVisionModel": ("vision",),
    "CLIPTextModelWithProjection": ("text",),
    "CLIPTextModel": ("text",),
}
"""transformers' classes that are read, with the towers of each."""
WHOLE_MODEL = "CLIPModel"
BEFORE = 2
"""The `eos_token_id` of configs from before transformers 4.31: whatever it says, texts end at their largest id."""


@dataclass(frozen=True)
class TextSettings(towers.TextTower):
    """The tower of texts."""

    vocab_size: int = setting(49408, int, least=1, most=WHOLE)
    hidden_size: int = setting(512, int, least=1, most=WHOLE)
    intermediate_size: int = setting(2048, int, least=1, most=WHOLE)
    projection_dim: int = setting(512, int, least=1, most=WHOLE)
    num_attention_heads: int = setting(8, int, least=1, most=WHOLE)
    max_position_embeddings: int = setting(77, int, least=2, most=WHOLE)
    hidden_act: str = setting("quick_gelu", words=ACTIVATIONS)
    eos_token_id: int = setting(49407, int, most=WHOLE)

    @classmethod
    def read(cls, values: Mapping[str, Any], where: object, prefix: str) -> Self:
        """See `TextTower.read`."""
        found = super().read(values, where, prefix)
        if found.end is not None and found.end >= found.vocab_size:
            why = f"no text can end with it, for vocab_size is {found.vocab_size}"
            raise wrong(where, f"{prefix}eos_token_id", found.eos_token_id, why)
        return found

    @property
    def end(self) -> int | None:
        """The id at whose first place a text is read; None: at its largest id."""
        return None if self.eos_token_id == BEFORE else self.eos_token_id


@dataclass(frozen=True)
class ClipSettings:
    """The values of a config; None for a tower that there is not. `projection_dim` is None where what the towers pool
    is given as it is."""

    architecture: str
    vision: ClipPictures | None
    text: TextSettings | None
    projection_dim: int | None

    @classmethod
    def read(cls, config: Mapping[str, Any], where: object = "the model") -> "ClipSettings":
        """The values of a config of `model_type` "clip", of one tower too. Raises InputError, beginning with `where`,
        for a key that is not known, a value that is not allowed, and values that do not go together."""
        known = {"vision_config", "text_config", "vision_config_dict", "text_config_dict", "projection_dim"}
        check_keys(config, known | {"pumer"} | GENERAL | towers.UNREAD, where)
        architecture = only_architecture(config, ARCHITECTURES, where) or WHOLE_MODEL
        has = ARCHITECTURES[architecture]
        vision = (
            ClipPictures.read(section(config, "vision", where), where, "vision_config.") if "vision" in has else None
        )
        text = TextSettings.read(section(config, "text", where), where, "text_config.") if "text" in has else None
        projection = read_values(_Shared, config, where)["projection_dim"]
        for one in (vision, text):
            if one is not None and architecture != WHOLE_MODEL:
                projection = one.projection_dim if architecture.endswith("WithProjection") else None
        return cls(architecture, vision, text, projection)

    def plain(self) -> dict[str, Any]:
        """The values as they stand in config.json."""
        parts = {"vision_config": self.vision, "text_config": self.text}
        shared = {} if self.architecture != WHOLE_MODEL else {"projection_dim": self.projection_dim}
        return {
            "model_type": "clip",
            "architectures": [self.architecture],
            **{key: dict(vars(part)) for key, part in parts.items() if part is not None},
            **shared,
        }


@dataclass(frozen=True)
class _Shared:
    projection_dim: int = setting(512, int, least=1, most=WHOLE)


def section(config: Mapping[str, Any], tower: str, where: object) -> dict[str, Any]:
    """The values of a tower. As in transformers, "vision_config_dict" of an old file goes before "vision_config", with
    the defaults of all that it does not say."""
    found = towers.section(config, f"{tower}_config", f"clip_{tower}_model", where)
    old = towers.section(config, f"{tower}_config_dict", f"clip_{tower}_model", where)
    return {**found, **DEFAULTS[tower], **old} if config.get(f"{tower}_config_dict") is not None else found


def checked_config(config: Mapping[str, Any], where: object) -> dict[str, Any]:
    """A config with every value in one form and transformers' defaults filled in. Raises InputError; see `read`."""
    plain = ClipSettings.read(config, where).plain()
    kept = {key: value for key, value in config.items() if not key.endswith(("_config", "_config_dict"))}
    return {**kept, **plain}


DEFAULTS: dict[str, dict[str, Any]] = {
    "vision": {"image_size": 224, **{f.name: f.default for f in fields(ClipPictures) if f.metadata}},
    "text": {f.name: f.default for f in fields(TextSettings) if f.metadata},
}
