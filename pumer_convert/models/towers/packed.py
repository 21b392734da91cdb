"""Pictures of several shapes in one batch: their patches cut out beforehand and packed to the largest of the batch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pumer_convert.errors import InputError
from pumer_convert.models.precision import like
from pumer_convert.models.towers import vit
from pumer_convert.tokens import Tokens


class PatchEmbeddings(vit.PatchEmbeddings):
    """Also of patches that are cut out already."""

    def of_patches(self, patches: Tensor) -> Tensor:
        """States [B, N, C] of patches [B, N, 3 * P * P]."""
        own = self.projection
        return F.linear(like(patches, own.weight), own.weight.flatten(1), own.bias)

    def cut(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels [B, 3, H, W] as patches, row by row, and the rows and columns that each picture has, [B, 2]. Raises
        InputError when they have none."""
        side = self.projection.kernel_size[0]
        if min(pixels.shape[-2:]) < side:
            raise InputError(f"a picture of {tuple(pixels.shape[-2:])} pixels has no whole patch of {side}x{side}.")
        grid = torch.tensor([length // side for length in pixels.shape[-2:]], device=pixels.device)
        return F.unfold(pixels, side, stride=side).transpose(1, 2), grid.expand(pixels.shape[0], 2)


class PictureEmbeddings(nn.Module):
    """CLS and patches, each with its position out of a table of `grid` rows and columns, for pictures of (H, W) `size`,
    which is interpolated for others, of at most `limit` patches. A family has the parts, under its names."""

    size: tuple[int, int]
    grid: tuple[int, int]
    limit: int | None
    cls_token: nn.Parameter
    position_embeddings: nn.Parameter
    patch_embeddings: PatchEmbeddings
    dropout: nn.Dropout

    def tokens(
        self, pixels: Tensor | None, patches: Tensor | None, grid: Tensor | None, kind: Tensor, mask: torch.dtype
    ) -> Tokens:
        """The tokens that pictures begin as, with a mask of type `mask`. They come as pixels [B, 3, H, W] or as patches
        with their `grid`, see `packed`. Raises InputError for both or neither, and for pictures of no whole patch or of
        too many."""
        if pixels is not None and patches is None:
            if tuple(pixels.shape[-2:]) == self.size:
                states = self.image(pixels, kind)
                return Tokens.start(states, torch.ones_like(states[..., 0], dtype=mask), first=1)
            patches, grid = self.patch_embeddings.cut(pixels)
            if self.limit is not None and self.limit < patches.shape[1]:
                count = patches.shape[1]
                raise InputError(f"a picture has {count} patches, more than max_image_length ({self.limit}).")
        elif pixels is not None or patches is None or grid is None:
            raise InputError("pictures come either as pixel_values or as patches with their patch_grid.")
        states, there = self.packed(patches, grid, kind)
        return Tokens.start(states, there.to(mask), first=1)

    def image(self, pixels: Tensor, kind: Tensor) -> Tensor:
        """States [B, 1 + N, C] of `pixels` [B, 3, H, W]; `kind` [B, 1, C]: the embedding of the image's place."""
        return self._placed(self.patch_embeddings(pixels), self.position_embeddings[:, 1:]) + kind

    def packed(self, patches: Tensor, grid: Tensor, kind: Tensor) -> tuple[Tensor, Tensor]:
        """States [B, 1 + N, C] of patches [B, N, 3 * P * P] of pictures with `grid` [B, 2] rows and columns, each row
        by row from place 0 on; and where there is a token at all, bool [B, 1 + N]."""
        table = self.position_embeddings[0, 1:]
        places, there = table_places(grid, patches.shape[1], self.grid, table.dtype)
        positions = (places @ table.to(places.dtype)).to(table.dtype)
        x = self._placed(self.patch_embeddings.of_patches(patches), positions)
        return x + kind, torch.cat([torch.ones_like(there[:, :1]), there], 1)

    def _placed(self, patches: Tensor, positions: Tensor) -> Tensor:
        """CLS and the patches [B, N, C], each with its position, after dropout."""
        first = self.cls_token + self.position_embeddings[:, :1]
        x = torch.cat([first.expand(patches.shape[0], -1, -1), patches + positions], 1)
        return self.dropout(x)  # type: ignore[no-any-return]


def table_places(
    grid: Tensor, count: int, table: tuple[int, int], dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Where patches stand in a table of positions: weights [B, `count`, rows * columns of `table`] that interpolate it
    for pictures of `grid` [B, 2] rows and columns, bilinear with aligned corners, as transformers' `visual_embed` does
    picture by picture; and which of the places hold a patch, bool [B, count]. Weights are float32 or more precise."""
    exact = torch.promote_types(dtype, torch.float32)
    place = torch.arange(count, device=grid.device)[None]
    there = place < grid[:, :1] * grid[:, 1:]
    sides = grid.clamp(min=1).to(exact)
    # (n + 0.5) / columns is never near a whole number, so rounding cannot change its floor.
    row = ((place + 0.5).to(exact) / sides[:, 1:]).floor()
    column = place.to(exact) - row * sides[:, 1:]
    weights = []
    for at, side, length in ((row, sides[:, :1], table[0]), (column, sides[:, 1:], table[1])):
        at = at * ((length - 1) / (side - 1).clamp(min=1))
        nodes = torch.arange(length, device=grid.device, dtype=exact)
        weights.append((1 - (at[..., None] - nodes).abs()).clamp(min=0))
    return (weights[0][..., :, None] * weights[1][..., None, :]).flatten(2), there
