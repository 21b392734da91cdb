"""The CLIP network: transformers' names, fused attention, reducers in the blocks of the tower of pictures."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pumer_convert.models.attention import causal_bias
from pumer_convert.models.clip.config import WHOLE_MODEL, ClipSettings, TextSettings, VisionSettings
from pumer_convert.models.output import Output
from pumer_convert.models.precision import LayerNorm, Linear
from pumer_convert.models.spec import grid, sides_of
from pumer_convert.models.towers.dual import TwoTowerBody
from pumer_convert.models.towers.embeddings import PatchEmbeddings, WordEmbeddings
from pumer_convert.models.towers.encoder import Encoder, unit
from pumer_convert.reducers.site import Trace
from pumer_convert.tokens import Tokens


class VisionTower(nn.Module):
    def __init__(self, settings: VisionSettings, patches: int) -> None:
        super().__init__()
        c, eps = settings.hidden_size, settings.layer_norm_eps
        self.embeddings = PatchEmbeddings(c, settings.patch_size, patches, cls=True, bias=False)
        self.pre_layrnorm, self.post_layernorm = LayerNorm(c, eps=eps), LayerNorm(c, eps=eps)
        self.encoder = Encoder(settings)


class TextTower(nn.Module):
    def __init__(self, settings: TextSettings) -> None:
        super().__init__()
        c = settings.hidden_size
        self.embeddings = WordEmbeddings(settings.vocab_size, settings.max_position_embeddings, c)
        self.encoder = Encoder(settings)
        self.final_layer_norm = LayerNorm(c, eps=settings.layer_norm_eps)
        self.end = settings.end

    def ends(self, ids: Tensor) -> Tensor:
        """Where each text of ids [B, T] ends, [B] int64: at its first token of that kind."""
        return (ids.int() if self.end is None else (ids == self.end).int()).argmax(-1)


class Clip(TwoTowerBody):
    """Two towers that never meet, or one of them. `pixel_values` [B, 3, H, W] -> image_embeds [B, D]; `input_ids` and
    `attention_mask` [B, T] -> text_embeds [B, D]: unit vectors in a model of both, and as transformers' class of the
    tower gives them in a model of one (pooler_output [B, C] where it has no projection)."""

    def __init__(self, config: Mapping[str, Any], image_size: Any = None) -> None:
        super().__init__()
        self.config = dict(config)
        settings = ClipSettings.read(config)
        self.settings, size = settings, settings.projection_dim
        self.pictures = settings.vision is not None
        if settings.vision is not None:
            vision = settings.vision
            self.image_size = sides_of(image_size or vision.image_size)
            rows, columns = grid(self.image_size, vision.patch_size)
            self.vision_model = VisionTower(vision, rows * columns)
            if size is not None:
                self.visual_projection = Linear(vision.hidden_size, size, bias=False)
        if settings.text is not None:
            self.text_model = TextTower(settings.text)
            if size is not None:
                self.text_projection = Linear(settings.text.hidden_size, size, bias=False)
        if settings.architecture == WHOLE_MODEL:
            self.logit_scale = nn.Parameter(torch.zeros(()))

    def of_image(self, pixel_values: Tensor, trace: Trace | None = None) -> Output:
        """The graph "image"."""
        trace, tower = Trace() if trace is None else trace, self.vision_model
        self.check_pixels(pixel_values, self.image_size)
        x = tower.pre_layrnorm(tower.embeddings(pixel_values))
        image = Tokens.start(x, torch.ones_like(x[..., 0], dtype=torch.bool), first=1)
        image = tower.encoder.of_image(image, self.step, trace)
        pooled = tower.post_layernorm(image.states[:, 0])
        return self._output("image", pooled, getattr(self, "visual_projection", None), image, trace)

    def of_text(self, input_ids: Tensor, attention_mask: Tensor, trace: Trace | None = None) -> Output:
        """The graph "text"."""
        trace, tower, mask = Trace() if trace is None else trace, self.text_model, attention_mask > 0
        x = tower.embeddings(input_ids)
        x = tower.encoder(x, causal_bias(mask, x.dtype))
        pooled = x[torch.arange(x.shape[0], device=x.device), tower.ends(input_ids)]
        pooled = tower.final_layer_norm(pooled)
        return self._output("text", pooled, getattr(self, "text_projection", None), Tokens.start(x, mask), trace)

    def _output(
        self, stream: str, pooled: Tensor, projection: nn.Module | None, tokens: Tokens, trace: Trace
    ) -> Output:
        if projection is not None:
            pooled = projection(pooled)
        if self.settings.architecture == WHOLE_MODEL:
            pooled = unit(pooled)
        name = "pooler_output" if projection is None else f"{stream}_embeds"
        return Output({name: pooled}, {stream: tokens}, trace)
