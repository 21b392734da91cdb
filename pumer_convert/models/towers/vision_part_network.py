"""The vision part of a decoder VLM: transformers' names, fused attention, reducers in the tower's blocks and at the
projector."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pumer_convert.models.body import Body
from pumer_convert.models.output import Output
from pumer_convert.models.precision import LayerNorm
from pumer_convert.models.spec import grid, sides_of
from pumer_convert.models.towers.embeddings import PatchEmbeddings
from pumer_convert.models.towers.encoder import Encoder, Halves
from pumer_convert.models.towers.vision_part import OUTPUT, VisionPart
from pumer_convert.reducers.site import SiteReducers, Trace
from pumer_convert.tokens import Tokens, gather


class Tower(nn.Module, ABC):
    """As many blocks as are of use."""

    @abstractmethod
    def begin(self, pixels: Tensor) -> Tensor:
        """What the first block takes, [B, N, C]."""

    @abstractmethod
    def blocks(self) -> Iterable[Halves]:
        """They, in order."""

    @abstractmethod
    def end(self, x: Tensor) -> Tensor:
        """What the projector takes of the last state, [B, N, C]."""


class VisionTower(Tower):
    """CLIP's or SigLIP's."""

    def __init__(self, settings: VisionPart, patches: int) -> None:
        super().__init__()
        vision, cls = settings.vision, settings.cls
        c = vision.hidden_size
        self.embeddings = PatchEmbeddings(c, vision.patch_size, patches, cls=cls, bias=not cls)
        if cls:
            self.pre_layrnorm = LayerNorm(c, eps=vision.layer_norm_eps)
        self.encoder = Encoder(replace(vision, num_hidden_layers=settings.blocks))
        if settings.normed:
            self.post_layernorm = LayerNorm(c, eps=vision.layer_norm_eps)

    def begin(self, pixels: Tensor) -> Tensor:
        """See `Tower`."""
        x: Tensor = self.embeddings(pixels)
        return self.pre_layrnorm(x) if hasattr(self, "pre_layrnorm") else x

    def blocks(self) -> Iterable[Halves]:
        """See `Tower`."""
        return self.encoder.layers  # type: ignore[return-value]

    def end(self, x: Tensor) -> Tensor:
        """See `Tower`."""
        return self.post_layernorm(x) if hasattr(self, "post_layernorm") else x


class VisionPartBody(Body):
    """`pixel_values` [B, 3, H, W] -> image_features [B, N, D], which take the places of a picture among the embeddings
    of a language model's words. `projector` makes them of the features [B, N, C] of a `tower` for so many patches."""

    def __init__(
        self,
        config: Mapping[str, Any],
        settings: VisionPart,
        projector: nn.Module,
        image_size: Any,
        tower: Callable[[Any, int], Tower] = VisionTower,
    ) -> None:
        super().__init__()
        self.config, self.settings = dict(config), settings
        self.image_size = sides_of(image_size or settings.vision.image_size)
        rows, columns = grid(self.image_size, settings.vision.patch_size)
        self.vision_tower = tower(settings, rows * columns)
        self.multi_modal_projector = projector

    def forward(self, pixel_values: Tensor, trace: Trace | None = None) -> Output:
        """The graph "vision"."""
        trace, settings = Trace() if trace is None else trace, self.settings
        self.check_pixels(pixel_values, self.image_size)
        x, first = self.vision_tower.begin(pixel_values), int(settings.cls or settings.trimmed)
        image = Tokens.start(x, torch.ones_like(x[..., 0], dtype=torch.bool), first=first, mapped=self.unmerges)
        step, states = self.step("projector"), {0: x}
        asked, keys = None, x.detach()
        for i, block in enumerate(self.vision_tower.blocks()):
            if i == settings.sites and step is not None and step.score != "features":
                asked, keys = block.looked_at(image, cls=settings.cls)
            image = block.of_image(image, self.step(f"vision.{i}"), trace)
            states[i + 1] = image.states
        # No token was dropped behind the first of these states.
        image = image.with_states(self.vision_tower.end(torch.cat([states[tap] for tap in settings.taps], -1)))
        if self.unmerges:
            keys, asked = gather(keys, image.known()), None if asked is None else gather(asked, image.known())
            # Nothing was pruned: every place has a token.
            back = gather(image.states, image.known())
            image = Tokens.start(back, torch.ones_like(x[..., 0], dtype=torch.bool), first=first)
        if settings.trimmed:
            image, keys, asked = image.without_first(), keys[:, 1:], None if asked is None else asked[:, 1:]
        if settings.squares is not None:
            x = settings.squares.token(self.cut(image.states)).flatten(1, 2)
            # Of a square's keys the mean; what CLS pays to its patches is paid to it.
            keys = self.cut(keys).mean((2, 4)).flatten(1, 2)
            asked = None if asked is None else self.cut(asked).sum((2, 4, 5)).flatten(1)
            image = Tokens.start(x, torch.ones_like(x[..., 0], dtype=torch.bool))

        def reduced(tokens: Tokens, side: str) -> Tokens:
            if step is None or step.side != side:
                return tokens
            compared = tokens.states.detach() if step.score == "features" else keys
            return step.of_image(tokens.with_keys(compared), asked, trace)

        image = reduced(image, "before")
        image = image.with_states(self.multi_modal_projector(image.states))
        image = reduced(image, "after")
        return Output({OUTPUT: image.states}, {"image": image}, trace)

    def cut(self, x: Tensor) -> Tensor:
        """Values [B, N, C] or [B, N] of patches as `Squares.token` takes them."""
        assert self.settings.squares is not None
        return self.settings.squares.cut(x, *grid(self.image_size, self.settings.vision.patch_size))

    @property
    def unmerges(self) -> bool:
        """Whether tokens that merged in the tower are back at their places before the projector."""
        return any(isinstance(step, SiteReducers) and step.unmerge is not None for step in self.reducers.values())
