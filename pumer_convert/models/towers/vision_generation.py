"""What classes of transformers need to run a reduced vision part; each family's `generation` has those."""

import json
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel, conversion_mapping
from transformers.modeling_outputs import BaseModelOutputWithPooling

from pumer_convert.models.body import Body, insert
from pumer_convert.models.towers.vision_part import OUTPUT, PROJECTOR, TOWER


class ReducedVision:
    """For a model of transformers, before its dense class: the vision part runs with the reducers that config.json
    records under "pumer"; the weights are those of the dense model, under the same names."""

    network: ClassVar[type[Body]]
    _vision: tuple[Body, ...] = ()  # in a tuple, so that it is no part of this module

    def get_image_features(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """The embeddings of each picture, `pooler_output` [B, N, D]."""
        model: Any = self
        if not self._vision:
            values = json.loads(model.config.to_json_string())
            with torch.device("meta"):
                build: Any = self.network
                self._vision = (insert(build(values), values.get("pumer", {})).eval(),)
        weights = {
            name.replace(f"{TOWER}vision_model.", TOWER, 1): value
            for name, value in model.named_parameters()
            if name.startswith((TOWER, PROJECTOR))
        }
        needed: dict[str, Tensor] = {name: weights[name] for name, _ in self._vision[0].named_parameters()}
        pixels = pixel_values.to(needed[f"{TOWER}embeddings.patch_embedding.weight"].dtype)
        found: Any = torch.func.functional_call(self._vision[0], needed, (pixels,)).outputs[OUTPUT]
        return BaseModelOutputWithPooling(pooler_output=found)


def named_like(cls: type[PreTrainedModel], known: str) -> None:
    """Weights of `cls` have the names in files that transformers has for `known`, a class or a model_type. Without this
    a language model would be random."""
    names: Any = conversion_mapping
    names.register_checkpoint_conversion_mapping(
        cls.__name__, names.get_checkpoint_conversion_mapping(known), overwrite=True
    )
