"""PaliGemma with a reduced vision part as a class of transformers, which loads the folders of the layout hf."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import (
    AutoModelForImageTextToText,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaModel,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling

from pumer_convert.models.body import Body
from pumer_convert.models.paligemma.network import PaliGemma
from pumer_convert.models.towers.vision_folders import LANGUAGE as LANGUAGE
from pumer_convert.models.towers.vision_generation import features, named_like, vision_part
from pumer_convert.weights import NESTED_PROCESSOR, PROCESSOR


class ReducedPaliGemmaModel(PaliGemmaModel):  # type: ignore[no-untyped-call]
    """Its vision part runs with the reducers that config.json records under "pumer"; the weights are those of the dense
    model, under the same names."""

    _vision: tuple[Body, ...] = ()  # in a tuple, so that it is no part of this module

    def get_image_features(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """The embeddings of each picture, `pooler_output` [B, N, D]."""
        if not self._vision:
            self._vision = (vision_part(PaliGemma, self.config),)
        found: Any = features(self._vision[0], self, pixel_values)
        return BaseModelOutputWithPooling(pooler_output=found)


class ReducedPaliGemma(PaliGemmaForConditionalGeneration):  # type: ignore[no-untyped-call]
    """The same with its language model's head."""

    def __init__(self, config: PaliGemmaConfig) -> None:
        super(PaliGemmaForConditionalGeneration, self).__init__(config)
        self.model = ReducedPaliGemmaModel(config)
        language: Any = config.text_config
        self.lm_head = nn.Linear(language.hidden_size, language.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]


MODEL = ReducedPaliGemma
ASKED = False
"""Whether `evaluate` puts questions to it."""
named_like(ReducedPaliGemma, "paligemma")
named_like(ReducedPaliGemmaModel, "PaliGemmaModel")


def count(config: Mapping[str, Any], tokens: int) -> dict[str, dict[str, Any]]:
    """Where files of a checkpoint say that a picture has that many `tokens`: name -> the keys that do."""
    says = {"image_seq_length": tokens}
    return {NESTED_PROCESSOR: {"processor_class": "PaliGemmaProcessor", "image_processor": says}, PROCESSOR: says}


def register() -> None:
    """From now on transformers' AutoModelForImageTextToText loads every PaliGemma as this class."""
    AutoModelForImageTextToText.register(PaliGemmaConfig, ReducedPaliGemma, exist_ok=True)
