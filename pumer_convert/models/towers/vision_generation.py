"""What classes of transformers need to run a reduced vision part; each family's `generation` has those."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel, conversion_mapping

from pumer_convert.models.body import Body, insert
from pumer_convert.models.towers.vision_part import OUTPUT, PROJECTOR, TOWER
from pumer_convert.models.towers.vision_part_network import VisionPartBody


def vision_part(network: Callable[[Mapping[str, Any]], VisionPartBody], config: PretrainedConfig) -> Body:
    """The vision part that a config describes, with the reducers that it records under "pumer", without weights."""
    values = json.loads(config.to_json_string())
    with torch.device("meta"):
        return insert(network(values), values.get("pumer", {})).eval()


def features(part: Body, model: PreTrainedModel, pixels: Tensor) -> Tensor:
    """What a vision part gives with the weights of a model that has them under the same names, [B, N, D]."""
    weights = {
        name.replace(f"{TOWER}vision_model.", TOWER, 1): value
        for name, value in model.named_parameters()
        if name.startswith((TOWER, PROJECTOR))
    }
    needed: dict[str, Tensor] = {name: weights[name] for name, _ in part.named_parameters()}
    pixels = pixels.to(needed[f"{TOWER}embeddings.patch_embedding.weight"].dtype)
    found: Tensor = torch.func.functional_call(part, needed, (pixels,)).outputs[OUTPUT]
    return found


def named_like(cls: type[PreTrainedModel], known: str) -> None:
    """Weights of `cls` have the names in files that transformers has for `known`, a class or a model_type. Without this
    a language model would be random."""
    names: Any = conversion_mapping
    names.register_checkpoint_conversion_mapping(
        cls.__name__, names.get_checkpoint_conversion_mapping(known), overwrite=True
    )
