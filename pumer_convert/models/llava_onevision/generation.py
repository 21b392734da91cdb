"""LLaVA-OneVision with a reduced vision part as a class of transformers, which loads the folders of the layout hf."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import LlavaOnevisionForConditionalGeneration, LlavaOnevisionModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.llava_onevision.modeling_llava_onevision import image_size_to_num_patches

from pumer_convert.errors import InputError
from pumer_convert.models.llava_onevision.config import USUAL
from pumer_convert.models.llava_onevision.network import LlavaOnevision
from pumer_convert.models.spec import grid
from pumer_convert.models.towers.mlp_part import MlpPart
from pumer_convert.models.towers.vision_folders import LANGUAGE as LANGUAGE
from pumer_convert.models.towers.vision_generation import ReducedForGeneration, ReducedVision, named_like


class ReducedLlavaOnevisionModel(ReducedVision, LlavaOnevisionModel):  # type: ignore[no-untyped-call]
    """See `ReducedVision`."""

    network = LlavaOnevision

    def get_image_features(  # type: ignore[override]  # as its dense class has it
        self,
        pixel_values: Tensor,
        image_sizes: Tensor | None = None,
        vision_feature_layer: int | list[int] | None = None,
        vision_feature_select_strategy: str | None = None,
        vision_aspect_ratio: str | None = None,
        batch_num_images: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        """The embeddings of each picture [N, D], its tiles packed as the dense class packs them, `pooler_output`.
        Raises InputError for features that are to be chosen otherwise than config.json says."""
        config: Any = self.config
        own = (config.vision_feature_layer, config.vision_feature_select_strategy)
        for asked, here in zip((vision_feature_layer, vision_feature_select_strategy), own, strict=True):
            if asked is not None and asked != here:
                raise InputError(f"the vision part was reduced for the features {here!r}, not {asked!r}.")
        assert image_sizes is not None
        alone = [True] * len(image_sizes)
        if batch_num_images is not None:
            alone = [int(count) == 1 for count in batch_num_images for _ in range(int(count))]
        side, pinpoints = config.vision_config.image_size, config.image_grid_pinpoints
        counts = [
            image_size_to_num_patches(size, pinpoints, side) if one else 1
            for size, one in zip(image_sizes, alone, strict=True)
        ]
        if pixel_values.dim() == 5:
            pixel_values = torch.cat([tiles[:count] for tiles, count in zip(pixel_values, counts, strict=True)])
        found: Any = self.features(pixel_values)
        packing: Any = self.pack_image_features
        ratio = vision_aspect_ratio or config.vision_aspect_ratio
        parts = torch.split(found.pooler_output, counts)
        found.pooler_output, _ = packing(parts, image_sizes, self.image_newline, ratio)
        return found  # type: ignore[no-any-return]


class ReducedLlavaOnevision(ReducedForGeneration, LlavaOnevisionForConditionalGeneration):  # type: ignore[no-untyped-call]
    """The same with its language model's head."""

    reduced = ReducedLlavaOnevisionModel


MODEL = ReducedLlavaOnevision
named_like(ReducedLlavaOnevision, "llava_onevision")
named_like(ReducedLlavaOnevisionModel, "LlavaOnevisionModel")


def count(config: Mapping[str, Any], tokens: int) -> dict[str, dict[str, Any]]:
    """Nothing: no file says how many tokens a tile has. Raises InputError where they are fewer than those of the dense
    model: how many a picture has, its processor and its class compute from the grid of patches."""
    settings = MlpPart.read(config, USUAL)
    rows, columns = grid(settings.vision.image_size, settings.vision.patch_size)
    dense = rows * columns + settings.cls - settings.trimmed
    if tokens != dense:
        raise InputError(
            f"a tile gives {tokens} tokens instead of {dense}, and its processor computes their number from the grid "
            "of patches; for the layout hf merge with `unmerge: before_projector` alone, and leave the projector."
        )
    return {}
