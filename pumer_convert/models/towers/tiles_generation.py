"""Idefics3 and SmolVLM with a reduced vision part as classes of transformers; each family's `generation` has those."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from pumer_convert.errors import InputError
from pumer_convert.models.towers.tiles_network import Tiles
from pumer_convert.models.towers.vision_generation import ReducedVision
from pumer_convert.weights import NESTED_PROCESSOR


class ReducedTiles(ReducedVision):
    """See `ReducedVision`."""

    network = Tiles

    def get_image_features(  # type: ignore[override]  # as its dense class has it
        self, pixel_values: Tensor, pixel_attention_mask: Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """The embeddings of the tiles [B, tiles, 3, H, W] of each example, `pooler_output` a list of [N, D]. Tiles of
        zeros fill up examples with fewer than others and are left out, as in the dense class. Raises InputError for a
        mask that hides a part of a tile: the vision part sees whole ones alone."""
        tiles = pixel_values.flatten(0, 1)
        real = (tiles != 0).flatten(1).any(1)
        real[0] |= ~real.any()
        if pixel_attention_mask is not None and not bool((pixel_attention_mask.flatten(0, 1)[real] != 0).all()):
            raise InputError(
                "pixel_attention_mask hides a part of a tile, and the reduced vision part sees whole tiles alone; let "
                "the processor resize pictures to tiles (do_resize, max_image_size)."
            )
        found: Any = self.features(tiles[real])
        counts = real.reshape(pixel_values.shape[:2]).sum(1).tolist()
        found.pooler_output = [part.flatten(0, 1) for part in torch.split(found.pooler_output, counts)]
        return found  # type: ignore[no-any-return]


def counted(processor: str, tokens: int) -> Mapping[str, dict[str, Any]]:
    """Where files of a checkpoint say that a tile has that many `tokens`: name -> the keys that do."""
    return {NESTED_PROCESSOR: {"processor_class": processor, "image_seq_len": tokens}}
