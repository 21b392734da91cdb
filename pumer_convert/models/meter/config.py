"""What a METER's config.json may say, as typed values; torch-free. The file is this project's own: the original has
none, and all but the kinds of its parts stands in its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from pumer_convert.models.labels import read_labels
from pumer_convert.models.towers.sections import check_texts
from pumer_convert.models.towers.settings import BertSettings, ClipSettings
from pumer_convert.models.values import (
    GENERAL,
    LAYERS,
    WHOLE,
    check_heads,
    check_keys,
    check_kinds,
    check_patches,
    needed_architecture,
    read_values,
    section,
    sides,
    square,
)
from pumer_convert.rules import setting

HEADS = (
    ("vqa_classifier.", "vqa", "MeterForQuestionAnswering"),
    ("snli_classifier.", "ve", "MeterForVisualEntailment"),
    ("nlvr2_classifier.", "nlvr2", "MeterForVisualReasoning"),
    ("rank_output.", "retrieval", "MeterForImageAndTextRetrieval"),
)
"""Where a head lies, its task, and the architecture that says so."""


@dataclass(frozen=True)
class MeterSettings:
    """The values of a config. `head` is where the head lies ("vqa_classifier"), `labels` the number of its logits;
    `image_size` S or [H, W]; `fusion_order` see `towers.fusion.fuse`."""

    head: str
    labels: int
    image_size: int | list[int]
    vision: ClipSettings
    text: BertSettings
    hidden_size: int = setting(768, int, least=1, most=WHOLE)
    num_attention_heads: int = setting(12, int, least=1, most=WHOLE)
    intermediate_size: int = setting(3072, int, least=1, most=WHOLE)
    num_fusion_layers: int = setting(6, int, least=1, most=LAYERS)
    layer_norm_eps: float = setting(1e-12, float)
    fusion_order: str = setting("parallel", words=("parallel", "sequential"))
    modality_type_vocab_size: int = setting(2, int, least=1, most=WHOLE)
    patch_size: int = setting(16, int, least=1, most=WHOLE)

    @classmethod
    def read(cls, config: Mapping[str, Any], where: object = "the model") -> "MeterSettings":
        """The values of a config. Raises InputError, beginning with `where`, for a key that is not known, a value that
        is not allowed, and values that do not go together."""
        own = {"vision", "text", "pumer", "pumer_task", "image_size", *(f.name for f in fields(cls) if f.metadata)}
        check_keys(config, own | GENERAL, where)
        size = sides(config, "image_size", 384, where)
        patch = square(config, "patch_size", cls.patch_size, where)
        heads = {architecture: start[:-1] for start, _, architecture in HEADS}
        architecture = needed_architecture(config, heads, where)
        names = None if heads[architecture] == "rank_output" else read_labels(config, where)
        parts: dict[str, Any] = {}
        for key, part in (("vision", ClipSettings), ("text", BertSettings)):
            values = section(config, key, where)
            check_keys(values, {f.name for f in fields(part)}, where, f"{key}.")
            parts[key] = part(**read_values(part, values, where, f"{key}."))
            check_heads(parts[key].hidden_size, parts[key].num_attention_heads, where, f"{key}.")
        values = read_values(cls, {**config, "patch_size": patch}, where)
        found = cls(heads[architecture], 1 if names is None else len(names), size, **parts, **values)
        found._check(where)
        return found

    @property
    def images(self) -> int:
        """Pictures of an example."""
        return 2 if self.head == "nlvr2_classifier" else 1

    @property
    def half(self) -> BertSettings:
        """One modality's side of a fusion layer."""
        return BertSettings(
            hidden_size=self.hidden_size,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=self.intermediate_size,
            layer_norm_eps=self.layer_norm_eps,
        )

    def _check(self, where: object) -> None:
        check_heads(self.hidden_size, self.num_attention_heads, where)
        check_patches(self.image_size, self.patch_size, 3, where)
        check_kinds(self.modality_type_vocab_size, self.images, where)
        check_texts(self.text, where, "text.")


def checked_config(config: Mapping[str, Any], where: object) -> dict[str, Any]:
    """A config with its sizes in one form. Raises InputError; see `MeterSettings.read`."""
    found = MeterSettings.read(config, where)
    return {**config, "model_type": "meter", "image_size": found.image_size, "patch_size": found.patch_size}
