"""What a ViLT's config.json may say, as typed values; torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from pumer_convert.errors import InputError
from pumer_convert.models.labels import read_labels
from pumer_convert.models.spec import grid
from pumer_convert.models.values import (
    ACTIVATIONS,
    GENERAL,
    LAYERS,
    WHOLE,
    check_keys,
    only_architecture,
    read_values,
    sides,
    square,
    wrong,
)
from pumer_convert.rules import setting

QUESTION, PAIRS, RETRIEVAL = (
    "ViltForQuestionAnswering",
    "ViltForImagesAndTextClassification",
    "ViltForImageAndTextRetrieval",
)
HEADS = {QUESTION: ("vqa", "ve"), PAIRS: ("nlvr2",), RETRIEVAL: ("retrieval",)}
"""The heads that are read, with the tasks of each; the first is meant unless `pumer_task` says another."""

OWN = frozenset(("text_layer_norm_eps", "max_text_len"))
"""Keys beside transformers' that this project writes, with `pumer_task`, for an original ViLT."""


@dataclass(frozen=True)
class ViltSettings:
    """The values of a config with transformers' defaults, as transformers' own network reads them.

    `architecture` is one of `HEADS`; `labels` the number of its logits; `image_size` S or [H, W]. What is not listed
    here, transformers does not read either (`models.values.GENERAL`), but for what is ours (`OWN`): original ViLTs have
    an epsilon of their own in the text embeddings, and the most tokens of a text in their hyper-parameters. Dropout
    acts in training alone.
    """

    architecture: str
    labels: int
    image_size: int | list[int]
    hidden_size: int = setting(768, int, least=1, most=WHOLE)
    num_hidden_layers: int = setting(12, int, least=1, most=LAYERS)
    num_attention_heads: int = setting(12, int, least=1, most=WHOLE)
    intermediate_size: int = setting(3072, int, least=1, most=WHOLE)
    hidden_act: str = setting("gelu", words=ACTIVATIONS)
    hidden_dropout_prob: float = setting(0.0, float, most=1)
    attention_probs_dropout_prob: float = setting(0.0, float, most=1)
    layer_norm_eps: float = setting(1e-12, float)
    text_layer_norm_eps: float | None = setting(None, float)
    patch_size: int = setting(32, int, least=1, most=WHOLE)
    num_channels: int = setting(3, int, least=1, most=WHOLE)
    vocab_size: int = setting(30522, int, least=1, most=WHOLE)
    max_position_embeddings: int = setting(40, int, least=2, most=WHOLE)
    max_text_len: int | None = setting(None, int, least=2, most=WHOLE)
    type_vocab_size: int = setting(2, int, least=1, most=WHOLE)
    modality_type_vocab_size: int = setting(2, int, least=1, most=WHOLE)
    qkv_bias: bool = setting(True, bool)
    max_image_length: int = setting(-1, int, least=-WHOLE, most=WHOLE)
    num_images: int = setting(-1, int, least=-WHOLE, most=1000)
    pad_token_id: int | None = setting(None, int, most=WHOLE)

    @classmethod
    def read(cls, config: Mapping[str, Any], where: object = "the model") -> "ViltSettings":
        """The values of a config. Raises InputError, beginning with `where`, for a key that is not known, a value that
        is not allowed, and values that do not go together."""
        known = {*GENERAL, "pumer", "pumer_task", "image_size", *_DEFAULTS}
        check_keys(config, known if "pumer_task" in config else known - OWN, where)
        size = sides(config, "image_size", 384, where)
        patch = square(config, "patch_size", _DEFAULTS["patch_size"], where)
        architecture = only_architecture(config, HEADS, where)
        if architecture is None:
            raise InputError(f"{where}: its config has no architectures; name one of {', '.join(HEADS)}.")
        names = None if architecture == RETRIEVAL else read_labels(config, where)
        labels = 2 if names is None else len(names)  # transformers' default
        found = cls(architecture, labels, size, **read_values(cls, {**config, "patch_size": patch}, where))
        found._check(where)
        return found

    @property
    def images(self) -> int:
        """Pictures of an example."""
        return self.num_images if self.architecture == PAIRS else 1

    @property
    def limit(self) -> int | None:
        """The most patches of a picture; None: any number."""
        return None if self.max_image_length < 0 else self.max_image_length

    @property
    def head(self) -> tuple[int, int]:
        """Channels that the classifier takes, and those within it; retrieval has none."""
        wide = self.hidden_size * self.images
        return wide, wide if self.architecture == PAIRS else 2 * wide

    @property
    def text_eps(self) -> float:
        """The epsilon of the text embeddings' LayerNorm."""
        return self.layer_norm_eps if self.text_layer_norm_eps is None else self.text_layer_norm_eps

    def plain(self) -> dict[str, Any]:
        """The values as they stand in config.json."""
        values = {name: getattr(self, name) for name in ("image_size", *_DEFAULTS)}
        values = {name: value for name, value in values.items() if name not in OWN or value is not None}
        return {"model_type": "vilt", "architectures": [self.architecture], **values}

    def check_patches(self, rows: int, columns: int, where: object = "the model") -> None:
        """Raises InputError for a picture of more patches than max_image_length: transformers draws that many of them
        at random."""
        if 0 <= self.max_image_length < rows * columns:
            why = f"of the {rows * columns} patches of a picture that many would be drawn at random; set it to -1"
            raise wrong(where, "max_image_length", self.max_image_length, why)

    def _check(self, where: object) -> None:
        if self.hidden_size % self.num_attention_heads:
            why = f"hidden_size, {self.hidden_size}, is no multiple of it"
            raise wrong(where, "num_attention_heads", self.num_attention_heads, why)
        if self.num_channels != 3:
            raise wrong(where, "num_channels", self.num_channels, "pictures are read with 3 channels alone")
        if self.images < 1:
            raise wrong(where, "num_images", self.num_images, f"{PAIRS} needs how many images it compares")
        if self.modality_type_vocab_size < 1 + self.images:
            why = f"text and {self.images} image(s) need {1 + self.images}"
            raise wrong(where, "modality_type_vocab_size", self.modality_type_vocab_size, why)
        if self.max_text_len is not None and self.max_text_len > self.max_position_embeddings:
            why = f"max_position_embeddings is {self.max_position_embeddings}"
            raise wrong(where, "max_text_len", self.max_text_len, why)
        if self.pad_token_id is not None and self.pad_token_id >= self.vocab_size:
            why = f"vocab_size is {self.vocab_size}"
            raise wrong(where, "pad_token_id", self.pad_token_id, why)
        rows, columns = grid(self.image_size, self.patch_size)
        if not rows * columns:
            raise wrong(where, "image_size", self.image_size, f"patch_size is {self.patch_size}")
        self.check_patches(rows, columns, where)


def checked(config: Mapping[str, Any], where: object) -> dict[str, Any]:
    """A config with every value in one form and transformers' defaults filled in. Raises InputError; see `read`."""
    return {"pad_token_id": 0, **config, **ViltSettings.read({"pad_token_id": 0, **config}, where).plain()}


_DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(ViltSettings) if f.metadata}
