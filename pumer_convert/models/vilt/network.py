"""The ViLT network: transformers' names, a deterministic embedding, fused attention, reducers in the block."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pumer_convert.errors import InputError
from pumer_convert.models import attention
from pumer_convert.models.body import Body
from pumer_convert.models.joint import Joint
from pumer_convert.models.output import Output
from pumer_convert.models.precision import LayerNorm, Linear, like
from pumer_convert.models.signature import LOGITS
from pumer_convert.models.spec import grid
from pumer_convert.models.towers import bert, vit
from pumer_convert.models.vilt.config import RETRIEVAL, ViltSettings
from pumer_convert.reducers.site import SiteReducers, Trace
from pumer_convert.tokens import Tokens


class PatchEmbeddings(vit.PatchEmbeddings):
    def of_patches(self, patches: Tensor) -> Tensor:
        """The same of patches [B, N, 3 * P * P] that are cut out already."""
        own = self.projection
        return F.linear(like(patches, own.weight), own.weight.flatten(1), own.bias)

    def cut(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels [B, 3, H, W] as patches, row by row, and the rows and columns that each picture has, [B, 2]."""
        side = self.projection.kernel_size[0]
        grid = torch.tensor([length // side for length in pixels.shape[-2:]], device=pixels.device)
        return F.unfold(pixels, side, stride=side).transpose(1, 2), grid.expand(pixels.shape[0], 2)


class Embeddings(nn.Module):
    """`grid`: rows and columns of the table of positions."""

    def __init__(self, settings: ViltSettings, grid: tuple[int, int]) -> None:
        super().__init__()
        c = settings.hidden_size
        self.grid = grid
        self.text_embeddings = bert.Embeddings(
            bert.table(settings.vocab_size, c),
            bert.table(settings.max_position_embeddings, c),
            bert.table(settings.type_vocab_size, c),
            settings.text_eps,
            settings.hidden_dropout_prob,
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, c))
        self.position_embeddings = nn.Parameter(torch.zeros(1, grid[0] * grid[1] + 1, c))
        self.patch_embeddings = PatchEmbeddings(c, settings.patch_size, settings.num_channels)
        self.token_type_embeddings = bert.table(settings.modality_type_vocab_size, c)
        self.dropout = nn.Dropout(settings.hidden_dropout_prob)

    def text(self, input_ids: Tensor) -> Tensor:
        return self.text_embeddings(input_ids) + self.token_type_embeddings.weight[0]  # type: ignore[no-any-return]

    def image(self, pixels: Tensor, kind: Tensor) -> Tensor:
        """`pixels` [B, 3, H, W]; `kind` [B, 1, C]: the embedding of the image's place (1 or 2)."""
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


class Block(vit.Block):
    def __init__(self, settings: ViltSettings, published: bool) -> None:
        super().__init__(settings)
        self.published = published

    def forward(self, joint: Joint, step: SiteReducers | None, trace: Trace) -> Joint:
        """The block; between its halves the tokens are reduced where there is a `step`."""
        x, t = joint.states, joint.texts
        q, k, v = self.projected(x)
        probabilities = None
        if self.published:
            mixed, probabilities = attention.reference(q, k, v, joint.mask)
        else:
            mixed = self.mixed(q, k, v, joint.bias)
        x = self.attended(x, mixed)
        if step is not None:
            text, image = joint.with_states(x).apart()
            asked = None
            if step.score == "relevance" and probabilities is not None:
                asked = probabilities[:, :, :t, t:].mean(1).sum(1).float()
            elif step.score == "relevance":
                asked = attention.relevance(q[:, :, :t], k, joint.bias, text.mask)[:, t:]
            elif step.score == "cls_attention":
                asked = attention.relevance(q[:, :, t : t + 1], k, joint.bias, image.mask[:, :1])[:, t:]
            keys = k.mean(1).detach()
            image, text = step(image.with_keys(keys[:, t:]), text.with_keys(keys[:, :t]), asked, trace)
            joint = Joint.of(text, image)
            x = joint.states
        return joint.with_states(self.fed(x))


class Encoder(nn.Module):
    def __init__(self, settings: ViltSettings, published: bool) -> None:
        super().__init__()
        blocks = (Block(settings, published) for _ in range(settings.num_hidden_layers))
        self.layer = nn.ModuleList(blocks)


class Trunk(nn.Module):
    def __init__(self, settings: ViltSettings, grid: tuple[int, int], published: bool) -> None:
        super().__init__()
        c = settings.hidden_size
        self.embeddings = Embeddings(settings, grid)
        self.encoder = Encoder(settings, published)
        self.layernorm = LayerNorm(c, eps=settings.layer_norm_eps)
        self.pooler = bert.Pooler(c)


class Vilt(Body):
    """ViLT with its head: question answering (and entailment), image pairs, or retrieval.

    Called as model(input_ids [B, T], attention_mask [B, T], pixel_values [B, 3, H, W], or [B, 2, 3, H, W] for image
    pairs) -> Output, with text padded on the right. Pictures of other shapes than the table of positions is made for
    get interpolated positions. Pictures of several shapes in one batch go in as patches [B, N, 3 * P * P] and
    patch_grid int64 [B, 2] (for pairs [B, 2, N, 3 * P * P] and [B, 2, 2]) instead; see `PictureInput`.
    """

    def __init__(self, config: dict[str, Any], image_size: Any = None) -> None:
        super().__init__()
        self.config = config
        settings = ViltSettings.read(config)
        image_size = image_size or settings.image_size
        self.image_size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        rows, columns = grid(image_size, settings.patch_size)
        settings.check_patches(rows, columns)
        self.published = config.get("pumer", {}).get("attention") == "reference"
        self.vilt = Trunk(settings, (rows, columns), self.published)
        self.images = settings.images
        if settings.architecture == RETRIEVAL:
            self.rank_output = Linear(settings.hidden_size, 1)
        else:
            wide, inner = settings.head
            self.classifier = nn.Sequential(
                Linear(wide, inner), LayerNorm(inner), nn.GELU(), Linear(inner, settings.labels)
            )

    def image_tokens(
        self, pixels: Tensor | None, patches: Tensor | None, grid: Tensor | None, kind: Tensor, mask: torch.dtype
    ) -> Tokens:
        """The tokens that pictures begin as, with a mask of type `mask`."""
        embeddings = self.vilt.embeddings
        if pixels is not None and patches is None:
            if tuple(pixels.shape[-2:]) == self.image_size:
                states = embeddings.image(pixels, kind)
                return Tokens.start(states, torch.ones_like(states[..., 0], dtype=mask), first=1)
            if min(pixels.shape[-2:]) < self.config["patch_size"]:
                side = self.config["patch_size"]
                raise InputError(f"a picture of {tuple(pixels.shape[-2:])} pixels has no whole patch of {side}x{side}.")
            patches, grid = embeddings.patch_embeddings.cut(pixels)
            if 0 <= self.config.get("max_image_length", -1) < patches.shape[1]:
                most = self.config["max_image_length"]
                raise InputError(f"a picture has {patches.shape[1]} patches, more than max_image_length ({most}).")
        elif pixels is not None or patches is None or grid is None:
            raise InputError("pictures come either as pixel_values or as patches with their patch_grid.")
        states, there = embeddings.packed(patches, grid, kind)
        return Tokens.start(states, there.to(mask), first=1)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor | None = None,
        trace: Trace | None = None,
        *,
        patches: Tensor | None = None,
        patch_grid: Tensor | None = None,
    ) -> Output:
        """See the class. Raises InputError for pictures smaller than a patch, and unless they come in one way."""
        trace = Trace() if trace is None else trace
        body, e = self.vilt, self.vilt.embeddings
        words = e.text(input_ids)
        mask = attention_mask.float() if self.published else attention_mask > 0
        kind = e.token_type_embeddings.weight[1 : 1 + self.images, None]
        if self.images > 1:
            # One pass over all images: example b's images are rows b * images, b * images + 1, ...
            words, mask = (v.repeat_interleave(self.images, 0) for v in (words, mask))
            kind = kind.repeat(input_ids.shape[0], 1, 1)
            pixel_values, patches, patch_grid = (
                None if v is None else v.flatten(0, 1) for v in (pixel_values, patches, patch_grid)
            )
        text = Tokens.start(words, mask, first=1)
        image = self.image_tokens(pixel_values, patches, patch_grid, kind, mask.dtype)
        joint = Joint.of(text, image)
        for i, block in enumerate(body.encoder.layer):
            joint = block(joint, self.step(f"encoder.{i}"), trace)
        text, image = joint.with_states(body.layernorm(joint.states)).apart()
        pooled = body.pooler(text)
        if self.images > 1:
            pooled = pooled.reshape(-1, self.images * pooled.shape[1])
        head = self.rank_output if hasattr(self, "rank_output") else self.classifier
        return Output({LOGITS: head(pooled)}, {"image": image, "text": text}, trace)
