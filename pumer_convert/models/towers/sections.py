"""The sections of a config for a tower of pictures and one of texts, as transformers has them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from pumer_convert.models.towers.settings import BertSettings
from pumer_convert.models.values import (
    ACTIVATIONS,
    GENERAL,
    LAYERS,
    WHOLE,
    check_heads,
    check_keys,
    check_patches,
    read_values,
    sides,
    square,
    wrong,
)
from pumer_convert.rules import setting

UNREAD = frozenset(("initializer_factor", "logit_scale_init_value", "dropout"))
"""Keys that transformers reads when it draws weights, and no other time; `dropout`, of versions before 4.29 and so of
most published CLIPs, never."""

_OF_GOOGLE = frozenset(
    (
        *("directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers"),
        *("pooler_size_per_head", "pooler_type"),
    )
)
"""Keys of Google's own BERTs of many languages, which transformers carries along and reads at no time."""


@dataclass(frozen=True)
class PictureFields:
    """The values of a transformer of pictures, with transformers' defaults, of which the class of a kind of tower says
    the others; `image_size` S or [H, W]."""

    image_size: int | list[int]
    hidden_size: int = setting(768, int, least=1, most=WHOLE)
    num_hidden_layers: int = setting(12, int, least=1, most=LAYERS)
    num_attention_heads: int = setting(12, int, least=1, most=WHOLE)
    num_channels: int = setting(3, int, least=1, most=WHOLE)
    patch_size: int = setting(16, int, least=1, most=WHOLE)
    hidden_act: str = setting("gelu", words=ACTIVATIONS)
    layer_norm_eps: float = setting(1e-5, float)


@dataclass(frozen=True)
class Pictures(PictureFields):
    """A tower of pictures."""

    intermediate_size: int = setting(3072, int, least=1, most=WHOLE)

    @classmethod
    def read(cls, values: Mapping[str, Any], where: object, prefix: str) -> Self:
        """The values of a section, whose keys messages call by this `prefix`. Raises InputError, beginning with
        `where`."""
        found = cls(sides(values, "image_size", 224, where), **tower_values(cls, values, where, prefix))
        check_patches(found.image_size, found.patch_size, found.num_channels, where, prefix)
        return found


@dataclass(frozen=True)
class PictureTower(Pictures):
    """One of CLIP's or SigLIP's kind; `cls`: with a CLS token."""

    cls: ClassVar[bool] = False
    attention_dropout: float = setting(0.0, float, most=1)


@dataclass(frozen=True)
class ClipPictures(PictureTower):
    """CLIP's."""

    cls = True
    projection_dim: int = setting(512, int, least=1, most=WHOLE)
    patch_size: int = setting(32, int, least=1, most=WHOLE)
    hidden_act: str = setting("quick_gelu", words=ACTIVATIONS)


@dataclass(frozen=True)
class SiglipPictures(PictureTower):
    """SigLIP's."""

    hidden_act: str = setting("gelu_pytorch_tanh", words=ACTIVATIONS)
    layer_norm_eps: float = setting(1e-6, float)
    vision_use_head: bool = setting(True, bool)


@dataclass(frozen=True)
class VitFields(PictureFields):
    """Those of transformers' ViT and its like."""

    layer_norm_eps: float = setting(1e-12, float)
    hidden_dropout_prob: float = setting(0.0, float, most=1)
    attention_probs_dropout_prob: float = setting(0.0, float, most=1)
    qkv_bias: bool = setting(True, bool)


@dataclass(frozen=True)
class VitPictures(VitFields, Pictures):
    """ViT, with its pooler."""

    encoder_stride: int = setting(16, int, least=1, most=WHOLE)
    pooler_output_size: int | None = setting(None, int, most=WHOLE)
    pooler_act: str = setting("tanh", words=ACTIVATIONS)

    @classmethod
    def read(cls, values: Mapping[str, Any], where: object, prefix: str) -> Self:
        """See `Pictures.read`. Raises InputError also where the pooler changes the width: what follows takes it."""
        found = super().read(values, where, prefix)
        if (found.pooler_output_size or found.hidden_size) != found.hidden_size:
            why = f"what follows takes hidden_size numbers, {found.hidden_size}"
            raise wrong(where, f"{prefix}pooler_output_size", found.pooler_output_size, why)
        return found


@dataclass(frozen=True)
class TextTower:
    """A tower of texts of CLIP's or SigLIP's kind, likewise."""

    vocab_size: int = setting(32000, int, least=1, most=WHOLE)
    hidden_size: int = setting(768, int, least=1, most=WHOLE)
    intermediate_size: int = setting(3072, int, least=1, most=WHOLE)
    num_hidden_layers: int = setting(12, int, least=1, most=LAYERS)
    num_attention_heads: int = setting(12, int, least=1, most=WHOLE)
    max_position_embeddings: int = setting(64, int, least=2, most=WHOLE)
    hidden_act: str = setting("gelu", words=ACTIVATIONS)
    layer_norm_eps: float = setting(1e-5, float)
    attention_dropout: float = setting(0.0, float, most=1)

    @classmethod
    def read(cls, values: Mapping[str, Any], where: object, prefix: str) -> Self:
        """See `Pictures.read`."""
        return cls(**tower_values(cls, values, where, prefix))


def bert(values: Mapping[str, Any], where: object, prefix: str, **usual: Any) -> BertSettings:
    """A section for BERT or RoBERTa, with `usual` values where it says nothing; as for `Pictures.read`."""
    values = {key: value for key, value in values.items() if key not in _OF_GOOGLE}
    check_keys(values, {f.name for f in fields(BertSettings)} - {"max_text_len"} | GENERAL | UNREAD, where, prefix)
    found = BertSettings(**tower_values(BertSettings, {**usual, **values}, where, prefix))
    check_texts(found, where, prefix)
    return found


def check_texts(tower: BertSettings, where: object, prefix: str = "") -> None:
    """Raises InputError for padding that is no token, and for lengths of texts that cannot be."""
    if tower.pad_token_id >= tower.vocab_size:
        raise wrong(where, f"{prefix}pad_token_id", tower.pad_token_id, f"there are {tower.vocab_size} tokens")
    if tower.longest > tower.places:
        why = f"there are positions for {tower.places} tokens"
        raise wrong(where, f"{prefix}max_text_len", tower.max_text_len, why)
    if tower.longest < 2:
        why = "that leaves no place for a text"
        raise wrong(where, f"{prefix}max_position_embeddings", tower.max_position_embeddings, why)


def kind_of(config: Mapping[str, Any], key: str, usual: str) -> str:
    """The model_type of the section under a key, `usual` where it says none; of a config that may be unchecked."""
    given = config.get(key)
    return str(given.get("model_type") or usual) if isinstance(given, Mapping) else usual


def section(config: Mapping[str, Any], key: str, kind: str, where: object) -> dict[str, Any]:
    """The values under a key, {} without it. Raises InputError for what is no object, and for one of a model_type other
    than `kind`."""
    given = config.get(key)
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise wrong(where, key, given, "it has to be an object")
    told = given.get("model_type")
    if told not in (None, "", kind.split("_")[0], kind):
        raise wrong(where, f"{key}.model_type", told, f"it has to be {kind}")
    return dict(given)


def tower_values(cls: type, values: Mapping[str, Any], where: object, prefix: str) -> dict[str, Any]:
    """The values of a section by the rules of a settings class; messages call its keys by this `prefix`. Raises
    InputError for a key that is not known, a value that is not allowed, and heads that do not divide the width."""
    check_keys(values, {f.name for f in fields(cls)} | GENERAL | UNREAD, where, prefix)
    if "patch_size" in values:
        values = {**values, "patch_size": square(values, "patch_size", 1, where)}
    found = read_values(cls, values, where, prefix)
    check_heads(found["hidden_size"], found["num_attention_heads"], where, prefix)
    return found
