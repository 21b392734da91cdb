"""What an InternVL's config.json may say, as typed values; torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from pumer_convert.models.towers.language import LanguageSettings
from pumer_convert.models.towers.sections import PictureTower
from pumer_convert.models.towers.squares import Shuffled
from pumer_convert.models.towers.vision_part import TowerNames, VisionPart, check_config_keys, language_section
from pumer_convert.models.values import ACTIVATIONS, LAYERS, WHOLE, only_architecture, read_values, section, wrong
from pumer_convert.rules import Rule, setting

ARCHITECTURES = ("InternVLForConditionalGeneration", "InternVLModel")
TOWER_KIND = "internvl_vision"
IDLE = ("layer_scale_init_value", "use_mask_token", "drop_path_rate")
"""Keys of the tower that change nothing: what weights are drawn with, what hides patches in pretraining, and one of the
original program."""


@dataclass(frozen=True)
class InternVLPictures(PictureTower):
    """InternVL's tower."""

    cls = True
    hidden_size: int = setting(1024, int, least=1, most=WHOLE)
    num_hidden_layers: int = setting(24, int, least=1, most=LAYERS)
    num_attention_heads: int = setting(16, int, least=1, most=WHOLE)
    intermediate_size: int = setting(4096, int, least=1, most=WHOLE)
    patch_size: int = setting(14, int, least=1, most=WHOLE)
    layer_norm_eps: float = setting(1e-6, float)
    attention_bias: bool = setting(False, bool)
    use_qk_norm: bool = setting(False, bool)
    hidden_dropout_prob: float = setting(0.0, float, most=1)
    projection_dropout: float = setting(0.0, float, most=1)
    norm_type: str = setting("layer_norm", words=("layer_norm", "rms_norm"))
    use_absolute_position_embeddings: bool = setting(True, bool)
    use_mean_pooling: bool = setting(True, bool)

    @classmethod
    def read(cls, values: Mapping[str, Any], where: object, prefix: str) -> Self:
        """See `Pictures.read`."""
        return super().read({"image_size": 448, **values}, where, prefix)


@dataclass(frozen=True)
class _Own:
    projector_hidden_act: str = setting("gelu", words=ACTIVATIONS)
    downsample_ratio: float = setting(0.5, float, above=True, most=1)
    vision_feature_select_strategy: str = setting("default", words=("default",))


@dataclass(frozen=True)
class InternVLSettings(VisionPart):
    """The values of a config: with them the projector's activation."""

    names = TowerNames(("embeddings.",), "encoder.layer.", "layernorm.", ("embeddings.mask_token",))
    vision: InternVLPictures
    activation: str

    @classmethod
    def read(cls, config: Mapping[str, Any], where: object = "the model") -> "InternVLSettings":
        """The values of a config of `model_type` "internvl". Raises InputError, beginning with `where`, for a key that
        is not known, a value that is not allowed, and values that do not go together."""
        check_config_keys(config, {f.name for f in fields(_Own)} | {"vision_feature_layer"}, where)
        values = dict(section({**config, "vision_config": config.get("vision_config") or {}}, "vision_config", where))
        if (kind := values.pop("model_type", None) or TOWER_KIND) != TOWER_KIND:
            raise wrong(where, "vision_config.model_type", kind, f"the tower that is read is {TOWER_KIND}")
        read = {key: value for key, value in values.items() if key not in IDLE}
        vision = InternVLPictures.read(read, where, "vision_config.")
        own = read_values(_Own, config, where)
        # Of 0.333 or 0.2 as a computer has them transformers' class makes no whole number of tokens.
        above, side = float(own["downsample_ratio"]).as_integer_ratio()
        if above != 1 or side > WHOLE:
            raise wrong(where, "downsample_ratio", own["downsample_ratio"], "it has to be 1, 0.5, 0.25 or half of that")
        layer, blocks = config.get("vision_feature_layer", -1), vision.num_hidden_layers
        if not Rule(int, least=-blocks - 1, most=blocks).holds(layer):
            why = f"allowed: a whole number from {-blocks - 1} to {blocks}"
            raise wrong(where, "vision_feature_layer", layer, why)
        return cls(
            architecture=only_architecture(config, ARCHITECTURES, where) or ARCHITECTURES[0],
            vision=vision,
            language=LanguageSettings.read(config, "qwen2", where),
            taps=(layer if layer >= 0 else blocks + 1 + layer,),
            trimmed=True,
            # Where the layer is the last by its number the norm is left out.
            normed=layer == -1 and not vision.use_mean_pooling,
            squares=Shuffled(side) if side > 1 else None,
            activation=own["projector_hidden_act"],
        )


def checked_config(config: Mapping[str, Any], where: object) -> dict[str, Any]:
    """A config with every value that is read here in one form and transformers' defaults filled in; the language
    model's section stays as it is. Raises InputError; see `read`."""
    found = InternVLSettings.read(config, where)
    return {
        **config,
        "model_type": "internvl",
        "architectures": [found.architecture],
        "vision_config": {"model_type": TOWER_KIND, **vars(found.vision)},
        "text_config": language_section(config.get("text_config"), found.language),
        "downsample_ratio": 1 / (found.squares.side if found.squares else 1),
        "vision_feature_layer": config.get("vision_feature_layer", -1),
        "vision_feature_select_strategy": "default",
        "projector_hidden_act": found.activation,
    }
