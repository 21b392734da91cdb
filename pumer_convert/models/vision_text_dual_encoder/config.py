"""What the config.json of a VisionTextDualEncoderModel may say, as typed values; torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pumer_convert.models.towers import sections as towers
from pumer_convert.models.towers.sections import ClipPictures, VitPictures
from pumer_convert.models.towers.settings import BertSettings
from pumer_convert.models.values import GENERAL, WHOLE, check_keys, only_architecture, read_values, section, wrong
from pumer_convert.rules import setting

MODEL_TYPE = "vision-text-dual-encoder"
ARCHITECTURES = {"VisionTextDualEncoderModel": ("vision", "text")}
VIT, CLIP = "vit", "clip_vision_model"
TEXTS: dict[str, dict[str, Any]] = {
    kind: {
        "vocab_size": words,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "pad_token_id": padding,
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
    }
    for kind, words, padding in (("bert", 30522, 0), ("roberta", 50265, 1))
}
"""The kinds of towers for texts, with transformers' defaults."""


@dataclass(frozen=True)
class PairSettings:
    """The values of a config."""

    vision: ClipPictures | VitPictures
    text: BertSettings
    projection_dim: int = setting(512, int, least=1, most=WHOLE)

    @classmethod
    def read(cls, config: Mapping[str, Any], where: object = "the model") -> "PairSettings":
        """The values of a config. Raises InputError, beginning with `where`, for a key that is not known, a value that
        is not allowed, and a tower of another kind."""
        known = {"vision_config", "text_config", "projection_dim", "pumer"}
        check_keys(config, known | GENERAL | towers.UNREAD, where)
        only_architecture(config, ARCHITECTURES, where)
        return cls(_vision(config, where), _text(config, where), **read_values(cls, config, where))

    def plain(self) -> dict[str, Any]:
        """The values as they stand in config.json."""
        kind = CLIP if isinstance(self.vision, ClipPictures) else VIT
        text = {key: value for key, value in vars(self.text).items() if key != "max_text_len"}
        return {
            "model_type": MODEL_TYPE,
            "architectures": [*ARCHITECTURES],
            "vision_config": {"model_type": kind, **vars(self.vision)},
            "text_config": text,
            "projection_dim": self.projection_dim,
        }


def _vision(config: Mapping[str, Any], where: object) -> ClipPictures | VitPictures:
    key = "vision_config"
    values = section(config, key, where, optional=True)
    if values.get("model_type") == CLIP.removesuffix("_vision_model"):  # of a whole CLIP the tower of pictures counts
        key, inner = f"{key}.{key}", values.get(key)
        values = {**section({key: inner}, key, where), "model_type": CLIP}
    kind = values.get("model_type") or VIT
    if kind not in (VIT, CLIP):
        raise wrong(where, f"{key}.model_type", kind, f"the towers of pictures that are read are {VIT} and {CLIP}")
    kinds: dict[str, type[ClipPictures | VitPictures]] = {VIT: VitPictures, CLIP: ClipPictures}
    return kinds[kind].read(values, where, f"{key}.")


def _text(config: Mapping[str, Any], where: object) -> BertSettings:
    values = section(config, "text_config", where, optional=True)
    kind = values.get("model_type") or "bert"
    if not isinstance(kind, str) or kind not in TEXTS:
        raise wrong(where, "text_config.model_type", kind, f"the towers of texts that are read are {', '.join(TEXTS)}")
    return towers.bert(values, where, "text_config.", **{**TEXTS[kind], "model_type": kind})


def checked_config(config: Mapping[str, Any], where: object) -> dict[str, Any]:
    """A config with every value in one form and transformers' defaults filled in. Raises InputError; see `read`."""
    return {**config, **PairSettings.read(config, where).plain()}
