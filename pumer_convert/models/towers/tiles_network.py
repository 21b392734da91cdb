"""The vision part of Idefics3 and SmolVLM: tiles [B, 3, H, W] in, embeddings of each out."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pumer_convert.models.precision import Linear
from pumer_convert.models.spec import grid
from pumer_convert.models.towers.embeddings import PatchEmbeddings
from pumer_convert.models.towers.tiles import settings_of
from pumer_convert.models.towers.vision_part import VisionPart
from pumer_convert.models.towers.vision_part_network import VisionPartBody


def places(patches: tuple[int, int], side: int) -> list[int]:
    """Which row of a table of `side` x `side` positions each of rows x columns of patches takes, row by row.

    As transformers' class finds it, in float32: the share of the height, and of the width, at which a patch begins, and
    how many of the table's own such shares are not beyond. By rounding some patches of some grids of the table's own
    size, of 25 x 25 for one, get the row of the patch before them.
    """
    edges = torch.arange(1 / side, 1.0, 1 / side, device="cpu")
    down, across = (
        torch.bucketize(
            (torch.arange(count, dtype=torch.float32, device="cpu") * (1.0 / torch.tensor(count, device="cpu"))).clamp(
                max=1.0 - 1e-6
            ),
            edges,
            right=True,
        )
        for count in patches
    )
    found: list[int] = (down[:, None] * side + across[None, :]).flatten().tolist()
    return found


class TileEmbeddings(PatchEmbeddings):
    """Patches whose positions are not those of their places, see `places`."""

    def __init__(self, settings: VisionPart, rows: list[int]) -> None:
        super().__init__(settings.vision.hidden_size, settings.vision.patch_size, len(rows), cls=False, bias=True)
        self.rows = rows

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        return x + self.position_embedding.weight[self.rows]  # type: ignore[no-any-return]


class Projection(nn.Module):
    """Its one matrix, under transformers' name."""

    def __init__(self, settings: VisionPart) -> None:
        super().__init__()
        self.proj = Linear(settings.width, settings.language.hidden_size, bias=False)


class Connector(nn.Module):
    """Features [B, N, C] of squares of patches -> embeddings [B, N, D] of the language model."""

    def __init__(self, settings: VisionPart) -> None:
        super().__init__()
        self.modality_projection = Projection(settings)

    def forward(self, x: Tensor) -> Tensor:
        return self.modality_projection.proj(x)  # type: ignore[no-any-return]


class Tiles(VisionPartBody):
    """See `VisionPartBody`; a picture is a tile."""

    def __init__(self, config: Mapping[str, Any], image_size: Any = None) -> None:
        settings = settings_of(config)
        super().__init__(config, settings, Connector(settings), image_size)
        tall, wide = grid(self.image_size, settings.vision.patch_size)
        if tall == wide and (rows := places((tall, wide), tall)) != list(range(tall * wide)):
            self.vision_tower.embeddings = TileEmbeddings(settings, rows)
