"""The ViLT network: transformers' names, a deterministic embedding, fused attention, reducers in the block."""

from typing import Any

import torch
from torch import Tensor, nn

from pumer_convert.models.body import Body
from pumer_convert.models.output import Output
from pumer_convert.models.precision import LayerNorm, Linear
from pumer_convert.models.signature import LOGITS
from pumer_convert.models.spec import grid, sides_of
from pumer_convert.models.towers import bert
from pumer_convert.models.towers.joint import Block, Joint
from pumer_convert.models.towers.packed import PatchEmbeddings, PictureEmbeddings
from pumer_convert.models.vilt.config import RETRIEVAL, ViltSettings
from pumer_convert.reducers.site import Trace
from pumer_convert.tokens import Tokens


class Embeddings(PictureEmbeddings):
    """Those of pictures, whose usual size is (H, W), and of texts."""

    def __init__(self, settings: ViltSettings, size: tuple[int, int]) -> None:
        super().__init__()
        c, self.limit, self.size = settings.hidden_size, settings.limit, size
        self.grid = rows, columns = grid(size, settings.patch_size)
        settings.check_limit(rows, columns)
        self.text_embeddings = bert.Embeddings(settings.words)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, c))
        self.position_embeddings = nn.Parameter(torch.zeros(1, rows * columns + 1, c))
        self.patch_embeddings = PatchEmbeddings(c, settings.patch_size, settings.num_channels)
        self.token_type_embeddings = bert.table(settings.modality_type_vocab_size, c)
        self.dropout = nn.Dropout(settings.hidden_dropout_prob)

    def text(self, input_ids: Tensor) -> Tensor:
        return self.text_embeddings(input_ids) + self.token_type_embeddings.weight[0]  # type: ignore[no-any-return]


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
        self.image_size, self.images = sides_of(image_size or settings.image_size), settings.images
        self.published = config.get("pumer", {}).get("attention") == "reference"
        self.vilt: Any = nn.Module()
        self.vilt.embeddings = Embeddings(settings, self.image_size)
        self.vilt.encoder = nn.Module()
        self.vilt.encoder.layer = nn.ModuleList(Block(settings) for _ in range(settings.num_hidden_layers))
        self.vilt.layernorm = LayerNorm(settings.hidden_size, eps=settings.layer_norm_eps)
        self.vilt.pooler = bert.Pooler(settings.hidden_size)
        if settings.architecture == RETRIEVAL:
            self.rank_output = Linear(settings.hidden_size, 1)
        else:
            self.classifier = bert.classifier(*settings.head, settings.labels)

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
        image = e.tokens(pixel_values, patches, patch_grid, kind, mask.dtype)
        joint = Joint.of(text, image)
        for i, block in enumerate(body.encoder.layer):
            joint = block(joint, self.step(f"encoder.{i}"), trace, self.published)
        text, image = joint.with_states(body.layernorm(joint.states)).apart()
        pooled = body.pooler(text)
        if self.images > 1:
            pooled = pooled.reshape(-1, self.images * pooled.shape[1])
        head = self.rank_output if hasattr(self, "rank_output") else self.classifier
        return Output({LOGITS: head(pooled)}, {"image": image, "text": text}, trace)
