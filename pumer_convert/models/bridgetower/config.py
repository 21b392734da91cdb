"""What a BridgeTower's config.json may say, as typed values; torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from pumer_convert.models.spec import grid
from pumer_convert.models.towers.sections import bert
from pumer_convert.models.towers.settings import BertSettings, ClipSettings
from pumer_convert.models.values import (
    BRIDGETOWER_PROGRAM,
    GENERAL,
    LAYERS,
    WHOLE,
    check_keys,
    needed_architecture,
    read_values,
    section,
    sides,
    square,
    wrong,
)
from pumer_convert.rules import setting

RETRIEVAL, CONTRASTIVE = "BridgeTowerForImageAndTextRetrieval", "BridgeTowerForContrastiveLearning"
HEADS = {RETRIEVAL: "itm_score.fc.weight", CONTRASTIVE: "itc_cross_modal_head.fc.weight"}
"""The heads that are read, with a weight of each."""
LINK_TYPES = ("add", "scaled_add", "interpolate")
LINKS = ("reduce", "pool")
"""What a recipe may say of the towers beside reduced fusion layers, see `pools`."""
_DROPOUT = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
_UNREAD = frozenset(
    (
        # Of training, of the head that fills in words, and of older versions; no other head asks for these.
        *("hidden_act", "num_attention_heads", "initializer_factor", "init_layernorm_from_vision_encoder"),
        *("logit_scale_init_value", "text_config_dict", "vision_config_dict"),
    )
)


@dataclass(frozen=True)
class VisionValues:
    """The section vision_config beside its sizes in pixels, with transformers' defaults."""

    hidden_size: int = setting(768, int, least=64, most=WHOLE)
    num_hidden_layers: int = setting(12, int, least=1, most=LAYERS)
    num_channels: int = setting(3, int, least=3, most=3)
    layer_norm_eps: float = setting(1e-5, float)
    stop_gradient: bool = setting(False, bool)
    share_layernorm: bool = setting(True, bool)
    remove_last_layer: bool = setting(False, bool)


@dataclass(frozen=True)
class BridgeTowerSettings:
    """The values of a config as transformers' own network reads them.

    `architecture` is one of `HEADS`; `image_size` S or [H, W]; a fusion layer has the sizes of `text`. Both towers run
    `split` layers before the first fusion layer and one more before each of the others. `share_layernorm` and
    `stop_gradient` of the image's tower change nothing that is computed here.
    """

    architecture: str
    image_size: int | list[int]
    patch_size: int
    vision: ClipSettings
    text: BertSettings
    hidden_size: int = setting(768, int, least=1, most=WHOLE)
    num_hidden_layers: int = setting(6, int, least=1, most=LAYERS)
    layer_norm_eps: float = setting(1e-5, float)
    share_cross_modal_transformer_layers: bool = setting(True, bool)
    share_link_tower_layers: bool = setting(False, bool)
    link_tower_type: str = setting("add", words=LINK_TYPES)
    contrastive_hidden_size: int | None = setting(None, int, least=1, most=WHOLE)

    @classmethod
    def read(cls, config: Mapping[str, Any], where: object = "the model") -> "BridgeTowerSettings":
        """The values of a config. Raises InputError, beginning with `where`, for a key that is not known, a value that
        is not allowed, and values that do not go together."""
        own = {"text_config", "vision_config", "pumer", "pumer_task", *(f.name for f in fields(cls) if f.metadata)}
        check_keys(config, own | _UNREAD | GENERAL | BRIDGETOWER_PROGRAM, where)
        architecture = needed_architecture(config, HEADS, where)
        pixels, vision = _vision(section(config, "vision_config", where, optional=True), where)
        words = dict(section(config, "text_config", where, optional=True))
        words.pop("model_type", None)
        text = bert(words, where, "text_config.", **_DROPOUT)
        found = cls(architecture, *pixels, vision, text, **read_values(cls, config, where))
        found._check(where)
        return found

    @property
    def split(self) -> int:
        """Layers of each tower before fusion."""
        return self.text.num_hidden_layers - self.num_hidden_layers + 1

    def _check(self, where: object) -> None:
        layers, width = self.text.num_hidden_layers, self.hidden_size
        if self.text.hidden_size != width:
            why = f"its fusion layers are as wide as its text, and text_config.hidden_size is {self.text.hidden_size}"
            raise wrong(where, "hidden_size", width, why)
        if self.split < 0:
            why = f"text_config.num_hidden_layers is {layers}, and each but the first takes one of those"
            raise wrong(where, "num_hidden_layers", self.num_hidden_layers, why)
        if self.vision.num_hidden_layers < layers:
            why = (
                f"{self.vision.num_hidden_layers} of them run beside the {layers} of the text; there have to be as many"
            )
            raise wrong(where, "vision_config.num_hidden_layers", self.vision.num_hidden_layers, why)
        if self.architecture != CONTRASTIVE:
            return
        if self.contrastive_hidden_size is None:
            raise wrong(where, "contrastive_hidden_size", None, f"a {CONTRASTIVE} needs the width of its embeddings")
        if not self.share_cross_modal_transformer_layers:
            why = f"in transformers a {CONTRASTIVE} runs with shared ones alone"
            raise wrong(where, "share_cross_modal_transformer_layers", False, why)
        if self.vision.hidden_size != width:
            why = f"in transformers a {CONTRASTIVE} runs with one width alone, and hidden_size is {width}"
            raise wrong(where, "vision_config.hidden_size", self.vision.hidden_size, why)


def _vision(values: Mapping[str, Any], where: object) -> tuple[tuple[int | list[int], int], ClipSettings]:
    """The sizes of pictures and of patches, and the transformer."""
    prefix = "vision_config."
    known = {f.name for f in fields(VisionValues)} | {"initializer_factor"} | GENERAL | BRIDGETOWER_PROGRAM
    check_keys(values, known, where, prefix)
    told = {prefix + name: values[name] for name in ("image_size", "patch_size") if name in values}
    size, patch = sides(told, prefix + "image_size", 288, where), square(told, prefix + "patch_size", 16, where)
    if 0 in grid(size, patch):
        raise wrong(where, prefix + "patch_size", patch, f"{prefix}image_size is {size}")
    found = VisionValues(**read_values(VisionValues, values, where, prefix))
    width, heads = found.hidden_size, found.hidden_size // 64
    if width % heads:
        raise wrong(where, prefix + "hidden_size", width, f"it is no multiple of its attention heads, {heads} by 64")
    layers = found.num_hidden_layers - found.remove_last_layer
    return (size, patch), ClipSettings(width, layers, heads, 4 * width, found.layer_norm_eps)


def pools(config: Mapping[str, Any]) -> bool:
    """Whether the towers run whole and each link pools their states, or both are reduced with the fused states."""
    return bool(config.get("pumer", {}).get("links") == "pool")


def checked_config(config: Mapping[str, Any], where: object) -> dict[str, Any]:
    """A config with its sizes in one form. Raises InputError; see `BridgeTowerSettings.read`."""
    found = BridgeTowerSettings.read(config, where)
    vision = {**(config.get("vision_config") or {}), "image_size": found.image_size, "patch_size": found.patch_size}
    given = {**config, "model_type": "bridgetower", "architectures": [found.architecture]}
    return given | {"vision_config": vision, "text_config": dict(config.get("text_config") or {})}
