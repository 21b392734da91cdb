"""The vision part of LLaVA: transformers' names, fused attention, reducers in the tower's blocks and at the
projector."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pumer_convert.models.activations import FUNCTIONS
from pumer_convert.models.body import Body
from pumer_convert.models.llava.config import LlavaSettings
from pumer_convert.models.output import Output
from pumer_convert.models.precision import LayerNorm, Linear
from pumer_convert.models.spec import grid, sides_of
from pumer_convert.models.towers.embeddings import PatchEmbeddings
from pumer_convert.models.towers.encoder import Encoder, EncoderLayer
from pumer_convert.reducers.site import Trace
from pumer_convert.tokens import Tokens


class VisionTower(nn.Module):
    """As many blocks as are of use."""

    def __init__(self, settings: LlavaSettings, patches: int) -> None:
        super().__init__()
        vision, cls = settings.vision, settings.cls
        c = vision.hidden_size
        self.embeddings = PatchEmbeddings(c, vision.patch_size, patches, cls=cls, bias=not cls)
        if cls:
            self.pre_layrnorm = LayerNorm(c, eps=vision.layer_norm_eps)
        self.encoder = Encoder(replace(vision, num_hidden_layers=settings.blocks))

    def begin(self, pixels: Tensor) -> Tensor:
        """What the first block takes, [B, N, C]."""
        x: Tensor = self.embeddings(pixels)
        return self.pre_layrnorm(x) if hasattr(self, "pre_layrnorm") else x


class Projector(nn.Module):
    """Features [B, N, C] of the tower -> embeddings [B, N, D] of the language model."""

    def __init__(self, settings: LlavaSettings) -> None:
        super().__init__()
        c, d = settings.vision.hidden_size * len(settings.taps), settings.language.hidden_size
        self.activation = FUNCTIONS[settings.activation]
        self.linear_1 = Linear(c, d, bias=settings.bias)
        self.linear_2 = Linear(d, d, bias=settings.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(self.activation(self.linear_1(x)))  # type: ignore[no-any-return]


class Llava(Body):
    """`pixel_values` [B, 3, H, W] -> image_features [B, N, D], which take the places of a picture among the embeddings
    of a language model's words."""

    def __init__(self, config: Mapping[str, Any], image_size: Any = None) -> None:
        super().__init__()
        self.config = dict(config)
        self.settings = settings = LlavaSettings.read(config)
        self.image_size = sides_of(image_size or settings.vision.image_size)
        rows, columns = grid(self.image_size, settings.vision.patch_size)
        self.vision_tower = VisionTower(settings, rows * columns)
        self.multi_modal_projector = Projector(settings)

    def forward(self, pixel_values: Tensor, trace: Trace | None = None) -> Output:
        """The graph "vision"."""
        trace, settings = Trace() if trace is None else trace, self.settings
        self.check_pixels(pixel_values, self.image_size)
        x, first = self.vision_tower.begin(pixel_values), int(settings.cls or settings.trimmed)
        image = Tokens.start(x, torch.ones_like(x[..., 0], dtype=torch.bool), first=first)
        step, states = self.step("projector"), {0: x}
        asked, keys = None, x.detach()
        for i, block in enumerate(self.vision_tower.encoder.layers):
            assert isinstance(block, EncoderLayer)
            if i == settings.sites and step is not None and step.score != "features":
                asked, keys = block.looked_at(image)
            image = block.of_image(image, self.step(f"vision.{i}"), trace)
            states[i + 1] = image.states
        # No token was dropped behind the first of these states.
        image = image.with_states(torch.cat([states[tap] for tap in settings.taps], -1))
        if settings.trimmed:
            image, keys, asked = image.without_first(), keys[:, 1:], None if asked is None else asked[:, 1:]

        def reduced(tokens: Tokens, side: str) -> Tokens:
            if step is None or step.side != side:
                return tokens
            compared = tokens.states.detach() if step.score == "features" else keys
            return step.of_image(tokens.with_keys(compared), asked, trace)

        image = reduced(image, "before")
        image = image.with_states(self.multi_modal_projector(image.states))
        image = reduced(image, "after")
        return Output({"image_features": image.states}, {"image": image}, trace)
