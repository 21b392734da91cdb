"""A joint encoder of text and image side by side, which are taken apart only where something is reduced."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pumer_convert.models import attention
from pumer_convert.models.towers import vit
from pumer_convert.reducers.site import SiteReducers, Trace
from pumer_convert.tokens import Tokens


@dataclass(frozen=True)
class Joint:
    """Joined once and taken apart only where something is reduced: a graph has a few joins instead of two a block.

    states  [B, T + N, C]      hidden states, the text first.
    mask    [B, T + N]         of both.
    bias    [B, 1, 1, T + N]   what is added to attention logits (see `attention.key_bias`).
    text, image                the tokens when they were last apart: their masks and sizes hold, their states do not.
    """

    states: Tensor
    mask: Tensor
    bias: Tensor
    text: Tokens
    image: Tokens

    @classmethod
    def of(cls, text: Tokens, image: Tokens) -> "Joint":
        """Both joined."""
        states, mask = torch.cat([text.states, image.states], 1), torch.cat([text.mask, image.mask], 1)
        alike = text.weights is None and image.weights is None
        weights = None if alike else torch.cat([text.sizes, image.sizes], 1)
        return cls(states, mask, attention.key_bias(mask, states.dtype, weights), text, image)

    @property
    def texts(self) -> int:
        """T, the length of the text."""
        return self.text.states.shape[1]

    def with_states(self, states: Tensor) -> "Joint":
        """The same tokens with new hidden states [B, T + N, C]."""
        return replace(self, states=states)

    def apart(self) -> tuple[Tokens, Tokens]:
        """Text and image with their hidden states."""
        t = self.texts
        return self.text.with_states(self.states[:, :t]), self.image.with_states(self.states[:, t:])


class Block(vit.Block):
    """ViT's layer on both."""

    def forward(self, joint: Joint, step: SiteReducers | None, trace: Trace, published: bool = False) -> Joint:
        """The layer, with the attention of the `published` PuMer or fused; between its halves the tokens are reduced
        where there is a `step`. Relevance is the attention of the text rows to the image columns."""
        x, t = joint.states, joint.texts
        q, k, v = self.projected(x)
        probabilities = None
        if published:
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
            elif step.score in ("cls_attention", "attention"):
                asked = attention.relevance(q[:, :, t : t + 1], k, joint.bias, image.mask[:, :1])[:, t:]
            keys = k.mean(1).detach()
            image, text = step(image.with_keys(keys[:, t:]), text.with_keys(keys[:, :t]), asked, trace)
            joint = Joint.of(text, image)
            x = joint.states
        return joint.with_states(self.fed(x))
