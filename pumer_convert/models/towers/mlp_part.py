"""What the vision parts of LLaVA's kind share, whose projector is two matrices with an activation between, and takes
hidden states of a CLIP or SigLIP tower: the values of their configs; torch-free."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from pumer_convert.models.family import Interpolation
from pumer_convert.models.towers.language import LanguageSettings
from pumer_convert.models.towers.sections import ClipPictures, SiglipPictures
from pumer_convert.models.towers.vision_family import VisionPartFamily
from pumer_convert.models.towers.vision_part import VisionPart, check_config_keys, language_section
from pumer_convert.models.values import ACTIVATIONS, LAYERS, only_architecture, read_values, section, wrong
from pumer_convert.rules import Rule, setting

TOWERS: dict[str, type[ClipPictures | SiglipPictures]] = {
    "clip_vision_model": ClipPictures,
    "siglip_vision_model": SiglipPictures,
}
"""The towers that are read, by their model_type."""
_LAYER = Rule(int, least=-LAYERS, most=LAYERS)


@dataclass(frozen=True)
class _Shared:
    projector_hidden_act: str = setting("gelu", words=ACTIVATIONS)
    vision_feature_select_strategy: str = setting("default", words=("default", "full"))
    multimodal_projector_bias: bool = setting(True, bool)


@dataclass(frozen=True)
class Usual:
    """What a class of transformers takes where a config says nothing: the tower's section, the kind of the language
    model, which hidden state the projector takes, and whether with the first token ("full") or without ("default").
    `keys`: those of its config that no other class has, and that change no feature of a tile."""

    architectures: tuple[str, ...]
    tower: Mapping[str, Any]
    language: str
    layer: int
    strategy: str
    keys: Collection[str] = ()


@dataclass(frozen=True, kw_only=True)
class MlpPart(VisionPart):
    """The values of a config: with them the projector's activation, and whether it has biases."""

    activation: str
    bias: bool

    @classmethod
    def read(cls, config: Mapping[str, Any], usual: Usual, where: object = "the model") -> "MlpPart":
        """The values of a config. Raises InputError, beginning with `where`, for a key that is not known, a value that
        is not allowed, and values that do not go together."""
        own = {f.name for f in fields(_Shared)} | {"vision_feature_layer", *usual.keys}
        check_config_keys(config, own, where)
        architecture = only_architecture(config, usual.architectures, where) or usual.architectures[0]
        given = config.get("vision_config") is not None
        values = dict(section(config, "vision_config", where)) if given else dict(usual.tower)
        kind = values.get("model_type") or usual.tower["model_type"]
        if not isinstance(kind, str) or kind not in TOWERS:
            raise wrong(where, "vision_config.model_type", kind, f"towers that are read are {', '.join(TOWERS)}")
        if values.get("tie_last_hidden_states"):
            raise wrong(where, "vision_config.tie_last_hidden_states", True, "a model with that is not supported")
        # Its classes put the language model's into it.
        values.pop("vocab_size", None)
        vision = TOWERS[kind].read(values, where, "vision_config.")
        shared = read_values(_Shared, {"vision_feature_select_strategy": usual.strategy, **config}, where)
        return cls(
            architecture=architecture,
            vision=vision,
            language=LanguageSettings.read(config, usual.language, where),
            taps=_taps(config.get("vision_feature_layer", usual.layer), vision.num_hidden_layers, where),
            trimmed=shared["vision_feature_select_strategy"] == "default",
            normed=False,
            squares=None,
            activation=shared["projector_hidden_act"],
            bias=shared["multimodal_projector_bias"],
        )


def _taps(value: Any, blocks: int, where: object) -> tuple[int, ...]:
    given = value if isinstance(value, list) and value else [value]
    if not all(_LAYER.holds(layer) and -blocks - 1 <= layer <= blocks for layer in given):
        why = f"allowed: a whole number from {-blocks - 1} to {blocks}, or a list of them"
        raise wrong(where, "vision_feature_layer", value, why)
    return tuple(layer if layer >= 0 else blocks + 1 + layer for layer in given)


class MlpFamily(VisionPartFamily):
    """See `Family`."""

    usual: ClassVar[Usual]

    def settings(self, config: Mapping[str, Any]) -> MlpPart:
        """See `VisionPartFamily`."""
        return MlpPart.read(config, self.usual)

    def checked(self, config: Mapping[str, Any], where: object) -> dict[str, Any]:
        """See `Family`; the language model's section stays as it is. Raises InputError; see `MlpPart.read`."""
        found = MlpPart.read(config, self.usual, where)
        kind = next(name for name, cls in TOWERS.items() if isinstance(found.vision, cls))
        return {
            **config,
            "model_type": self.name,
            "architectures": [found.architecture],
            "vision_config": {"model_type": kind, **vars(found.vision)},
            "text_config": language_section(config.get("text_config"), found.language),
            "vision_feature_layer": config.get("vision_feature_layer", self.usual.layer),
            "vision_feature_select_strategy": "default" if found.trimmed else "full",
            "projector_hidden_act": found.activation,
            "multimodal_projector_bias": found.bias,
        }

    def interpolated(self, config: Mapping[str, Any]) -> Interpolation:
        """See `Family`: a tower without CLS has no place for it."""
        return replace(self.interpolation, first=int(self.settings(config).cls))

    def projected(self, settings: VisionPart) -> int:
        """See `VisionPartFamily`: two matrices."""
        return super().projected(settings) + settings.language.hidden_size**2
