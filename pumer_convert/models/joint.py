"""Text and image side by side, as the blocks of a joint encoder see them from one reduction to the next."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pumer_convert.models.attention import key_bias
from pumer_convert.tokens import Tokens


@dataclass(frozen=True)
class Joint:
    """Joined once and taken apart only where something is reduced: a graph has a few joins instead of two a block.

    states  [B, T + N, C]      hidden states, the text first.
    mask    [B, T + N]         of both.
    bias    [B, 1, 1, T + N]   what is added to attention logits (see `key_bias`).
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
        return cls(states, mask, key_bias(mask, states.dtype, weights), text, image)

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
