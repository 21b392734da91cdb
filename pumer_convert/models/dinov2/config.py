"""What a DINOv2's config.json may say, as typed values; torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from pumer_convert.models.towers.sections import VitFields
from pumer_convert.models.values import (
    GENERAL,
    WHOLE,
    check_heads,
    check_keys,
    check_patches,
    only_architecture,
    read_values,
    sides,
    square,
    wrong,
)
from pumer_convert.rules import setting

PLAIN, WITH_REGISTERS = "Dinov2Model", "Dinov2WithRegistersModel"
"""transformers' classes that are read."""
KINDS = {"dinov2": PLAIN, "dinov2_with_registers": WITH_REGISTERS}
"""Their model_type there; here it is "dinov2" of both."""
REGISTERS = "num_register_tokens"
IDLE = frozenset(
    (
        "layerscale_value",  # what weights are drawn with
        "use_mask_token",  # of pretraining
        *("out_features", "out_indices", "stage_names", "apply_layernorm", "reshape_hidden_states"),  # of a backbone
        *("interpolate_antialias", "interpolate_offset"),  # of the original program
    )
)
"""Keys that change nothing in these classes."""


@dataclass(frozen=True, kw_only=True)
class Dinov2Settings(VitFields):
    """The values of a config with transformers' defaults; `image_size` S or [H, W]. Dropout, of whole branches too,
    acts in training alone. `num_register_tokens` is 0 for the model that has none."""

    num_register_tokens: int
    patch_size: int = setting(14, int, least=1, most=WHOLE)
    mlp_ratio: float = setting(4, float, above=True, most=1000)
    use_swiglu_ffn: bool = setting(False, bool)
    drop_path_rate: float = setting(0.0, float, most=1, below=True)
    layer_norm_eps: float = setting(1e-6, float)

    @classmethod
    def read(cls, config: Mapping[str, Any], where: object = "the model") -> "Dinov2Settings":
        """The values of a config. Raises InputError, beginning with `where`, for a key that is not known, a value that
        is not allowed, and values that do not go together."""
        kind = KINDS[config["model_type"]]
        kind = WITH_REGISTERS if config.get("architectures") == [WITH_REGISTERS] else kind
        only_architecture(config, [kind], where)
        registers = read_values(_Registers, config, where)[REGISTERS] if kind == WITH_REGISTERS else 0
        known = {f.name for f in fields(cls)} - (set() if registers else {REGISTERS})
        check_keys(config, known | IDLE | GENERAL | {"pumer"}, where)
        size = sides(config, "image_size", 224, where)
        patch = square(config, "patch_size", 16 if registers else 14, where)
        values = read_values(cls, {**config, "patch_size": patch}, where)
        found = cls(image_size=size, num_register_tokens=registers, **values)
        check_heads(found.hidden_size, found.num_attention_heads, where)
        check_patches(size, patch, found.num_channels, where)
        if int(found.hidden_size * found.mlp_ratio) < 1:
            raise wrong(where, "mlp_ratio", found.mlp_ratio, f"hidden_size is {found.hidden_size}")
        return found

    @property
    def architecture(self) -> str:
        """transformers' class."""
        return WITH_REGISTERS if self.num_register_tokens else PLAIN

    @property
    def first(self) -> int:
        """The tokens before those of the patches: CLS and the registers."""
        return 1 + self.num_register_tokens

    @property
    def gated_size(self) -> int:
        """The width within a SwiGLU: two thirds of that of a plain feed-forward, up to a multiple of 8."""
        return (int(int(self.hidden_size * self.mlp_ratio) * 2 / 3) + 7) // 8 * 8

    @property
    def intermediate_size(self) -> int:
        """The width within a feed-forward of two matrices, or, in a SwiGLU of three, of one that costs as much."""
        return self.gated_size * 3 // 2 if self.use_swiglu_ffn else int(self.hidden_size * self.mlp_ratio)

    @property
    def attention_dropout(self) -> float:
        """Of the probabilities."""
        return self.attention_probs_dropout_prob

    def plain(self) -> dict[str, Any]:
        """The values as they stand in config.json."""
        values = {name: value for name, value in vars(self).items() if name != REGISTERS or value}
        return {"model_type": "dinov2", "architectures": [self.architecture], **values}


@dataclass(frozen=True)
class _Registers:
    num_register_tokens: int = setting(4, int, least=1, most=1000)


def checked_config(config: Mapping[str, Any], where: object) -> dict[str, Any]:
    """A config with every value in one form and transformers' defaults filled in. Raises InputError; see `read`."""
    return {**config, **Dinov2Settings.read(config, where).plain()}
