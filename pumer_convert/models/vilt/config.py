"""What a ViLT's config.json may say, as typed values; torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from pumer_convert.models.labels import read_labels
from pumer_convert.models.spec import grid
from pumer_convert.models.towers.sections import VitFields, check_texts
from pumer_convert.models.towers.settings import BertSettings
from pumer_convert.models.values import (
    GENERAL,
    WHOLE,
    check_heads,
    check_keys,
    check_kinds,
    check_patches,
    needed_architecture,
    read_values,
    sides,
    square,
    wrong,
)
from pumer_convert.rules import setting

QUESTION, PAIRS = "ViltForQuestionAnswering", "ViltForImagesAndTextClassification"
RETRIEVAL = "ViltForImageAndTextRetrieval"
HEADS = {QUESTION: ("vqa", "ve"), PAIRS: ("nlvr2",), RETRIEVAL: ("retrieval",)}
"""The heads that are read, with the tasks of each; the first is meant unless `pumer_task` says another."""

OWN = frozenset(("text_layer_norm_eps", "max_text_len"))
"""Keys beside transformers' that this project writes, with `pumer_task`, for an original ViLT."""


@dataclass(frozen=True, kw_only=True)
class ViltSettings(VitFields):
    """The values of a config with transformers' defaults, as transformers' own network reads them.

    `architecture` is one of `HEADS`; `labels` the number of its logits; `image_size` S or [H, W]. What is not listed
    here, transformers does not read either (`models.values.GENERAL`), but for what is ours (`OWN`): original ViLTs have
    an epsilon of their own in the text embeddings, and the most tokens of a text in their hyper-parameters. Dropout
    acts in training alone.
    """

    architecture: str
    labels: int
    intermediate_size: int = setting(3072, int, least=1, most=WHOLE)
    text_layer_norm_eps: float | None = setting(None, float)
    patch_size: int = setting(32, int, least=1, most=WHOLE)
    vocab_size: int = setting(30522, int, least=1, most=WHOLE)
    max_position_embeddings: int = setting(40, int, least=2, most=WHOLE)
    max_text_len: int | None = setting(None, int, least=2, most=WHOLE)
    type_vocab_size: int = setting(2, int, least=1, most=WHOLE)
    modality_type_vocab_size: int = setting(2, int, least=1, most=WHOLE)
    max_image_length: int = setting(-1, int, least=-WHOLE, most=WHOLE)
    num_images: int = setting(-1, int, least=-WHOLE, most=1000)
    pad_token_id: int | None = setting(None, int, most=WHOLE)

    @classmethod
    def read(cls, config: Mapping[str, Any], where: object = "the model") -> "ViltSettings":
        """The values of a config. Raises InputError, beginning with `where`, for a key that is not known, a value that
        is not allowed, and values that do not go together."""
        known = {*GENERAL, "pumer", "pumer_task", *_VALUES}
        check_keys(config, known if "pumer_task" in config else known - OWN, where)
        size = sides(config, "image_size", 384, where)
        patch = square(config, "patch_size", cls.patch_size, where)
        architecture = needed_architecture(config, HEADS, where)
        names = None if architecture == RETRIEVAL else read_labels(config, where)
        labels = 2 if names is None else len(names)  # transformers' default
        values = read_values(cls, {**config, "patch_size": patch}, where)
        found = cls(image_size=size, architecture=architecture, labels=labels, **values)
        check_heads(found.hidden_size, found.num_attention_heads, where)
        check_patches(size, patch, found.num_channels, where)
        if found.images < 1:
            raise wrong(where, "num_images", found.num_images, f"{PAIRS} needs how many images it compares")
        check_kinds(found.modality_type_vocab_size, found.images, where)
        check_texts(found.words, where)
        found.check_limit(*grid(size, patch), where)
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
    def words(self) -> BertSettings:
        """What the embeddings of texts are built from, and which texts they take."""
        eps = self.layer_norm_eps if self.text_layer_norm_eps is None else self.text_layer_norm_eps
        same = ("vocab_size", "hidden_size", "hidden_dropout_prob", "max_position_embeddings", "max_text_len")
        values = {name: getattr(self, name) for name in (*same, "type_vocab_size")}
        return BertSettings("bert", **values, pad_token_id=self.pad_token_id or 0, layer_norm_eps=eps)

    def plain(self) -> dict[str, Any]:
        """The values as they stand in config.json."""
        values = {name: getattr(self, name) for name in _VALUES if name not in OWN or getattr(self, name) is not None}
        return {"model_type": "vilt", "architectures": [self.architecture], **values}

    def check_limit(self, rows: int, columns: int, where: object = "the model") -> None:
        """Raises InputError for a picture of more patches than max_image_length: transformers draws that many of them
        at random."""
        if self.limit is not None and self.limit < rows * columns:
            why = f"of the {rows * columns} patches of a picture that many would be drawn at random; set it to -1"
            raise wrong(where, "max_image_length", self.max_image_length, why)


def checked_config(config: Mapping[str, Any], where: object) -> dict[str, Any]:
    """A config with every value in one form and transformers' defaults filled in. Raises InputError; see `read`."""
    return {"pad_token_id": 0, **config, **ViltSettings.read({"pad_token_id": 0, **config}, where).plain()}


_VALUES = tuple(f.name for f in fields(ViltSettings) if f.name not in ("architecture", "labels"))
