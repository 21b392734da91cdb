"""Tokens: what reducers take and give."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """The tokens of one modality.

    states  [B, N, C]  hidden states.
    mask    [B, N]     True where a token is there; padding stands behind the valid tokens. Under the reference
                       semantics a float: the published code averages the masks of merged tokens.
    size    [B, N]     float32; how many original tokens stand in each token. Sizes of the valid tokens sum to the
                       original count minus what was pruned. None until something was merged: every token is one.
    source  [B, N0]    int64; where each original token is now, -1 when it was pruned or never there; None: not known.
                       A graph that does not ask for it is exported without it.
    place   [B, N]     int64; which original token each was itself, whatever merged into it; of a sum of others the last
                       place. None: not known, as in a graph.
    keys    [B, N, D]  what merging compares (head means of attention keys); None outside a reduction step.
    frozen  [B, N]     bool; valid tokens that are neither pruned nor merged away, such as CLS; others may merge into
                       them. What it says of padding means nothing. None where there are none.
    stays              how many tokens of an example are frozen at the most: lengths are computed before there is data.
    proportional       whether attention counts a merged token as often as the tokens in it.
    """

    states: Tensor
    mask: Tensor
    size: Tensor | None = None
    source: Tensor | None = None
    place: Tensor | None = None
    keys: Tensor | None = None
    frozen: Tensor | None = None
    stays: int = 0
    proportional: bool = False

    @classmethod
    def start(cls, states: Tensor, mask: Tensor, *, first: int = 0, mapped: bool = False) -> "Tokens":
        """Unreduced tokens: every valid token is its own source. The `first` so many of them are frozen: 1 for CLS.
        `mapped`: the source is known in a graph too, for a network that pools or spreads."""
        tokens = cls(states, mask)
        # Unused it would leave no node in a graph, but a third more time to trace it.
        if mapped or not torch.onnx.is_in_onnx_export():
            tokens = tokens.as_originals()
        return tokens.freeze(tokens._places() < first, first) if first else tokens

    def as_originals(self) -> "Tokens":
        """The same tokens as originals of their own, in a graph too: the source tells where each of these went."""
        place = self._places()
        known = None if torch.onnx.is_in_onnx_export() else place
        return replace(self, source=torch.where(self.mask.bool(), place, -1), place=known)

    def _places(self) -> Tensor:
        return torch.arange(self.states.shape[1], device=self.states.device).expand(self.states.shape[:2])

    def freeze(self, where: Tensor, most: int) -> "Tokens":
        """The same tokens, also frozen where `where` [B, N] says, which is in `most` places of an example or fewer."""
        frozen = where if self.frozen is None else self.frozen | where
        return replace(self, frozen=frozen, stays=self.stays + most)

    @property
    def held(self) -> Tensor:
        """`frozen`, bool [B, N]; nowhere where nothing is."""
        return torch.zeros_like(self.states[..., 0], dtype=torch.bool) if self.frozen is None else self.frozen

    @property
    def sizes(self) -> Tensor:
        """`size`, [B, N]; ones where nothing was merged."""
        return torch.ones_like(self.states[..., 0], dtype=torch.float32) if self.size is None else self.size

    @property
    def weights(self) -> Tensor | None:
        """How often attention counts each token, [B, N] float32; None: once."""
        return self.size if self.proportional else None

    def without_first(self) -> "Tokens":
        """All but the first token, which is frozen where any is, without keys; the originals in it are gone."""
        return replace(
            self,
            states=self.states[:, 1:],
            mask=self.mask[:, 1:],
            size=None if self.size is None else self.size[:, 1:],
            source=None if self.source is None else readable(self.source) - 1,
            place=None if self.place is None else self.place[:, 1:] - 1,
            keys=None,
            frozen=None if self.stays <= 1 or self.frozen is None else self.frozen[:, 1:],
            stays=max(self.stays - 1, 0),
        )

    def with_states(self, states: Tensor) -> "Tokens":
        """The same tokens with new hidden states [B, N, C]."""
        return replace(self, states=states)

    def with_keys(self, keys: Tensor) -> "Tokens":
        """The same tokens with keys [B, N, D]."""
        return replace(self, keys=keys)

    def moved(self, places: Callable[[], Tensor]) -> Tensor | None:
        """The source map after every current token n has gone to places()[b, n] ([B, N] int64, -1: gone)."""
        if self.source is None:
            return None
        now = places().gather(1, readable(self.source))
        return torch.where(self.source >= 0, now, -1)

    def pool(self, full: Tensor, size: Tensor | None = None) -> Tensor:
        """Values [B, N0, C] of the original tokens -> [B, N, C]: of each token the mean over the originals that stand
        in it, zeros where none does; each counts `size` [B, N0] times (None: once). What was pruned counts nowhere.
        Raises ValueError where the source is not known.
        """
        places = torch.arange(self.states.shape[1], device=full.device)
        members = (self.known()[:, None, :] == places[:, None]).to(torch.promote_types(full.dtype, torch.float32))
        members = members if size is None else members * size[:, None, :]
        # Weights that sum to 1, so that no sum is too large for half precision.
        weights = members / members.sum(2, keepdim=True).clamp(min=1)
        return weights.to(full.dtype) @ full

    def spread(self) -> Tensor:
        """The states at every original place, [B, N0, C]: a merged token's at each of its originals, zeros at what was
        pruned or never there. Raises ValueError where the source is not known."""
        source = self.known()
        return torch.where(source[..., None] >= 0, gather(self.states, source), 0)

    def known(self) -> Tensor:
        """`source`, [B, N0]. Raises ValueError where it is not known."""
        if self.source is None:
            raise ValueError("it is not known where the original tokens are")
        return self.source


def readable(index: Tensor) -> Tensor:
    """Places that can be read: -1, which is none, as the first. TensorRT-RTX cannot build a Clip of whole numbers over
    what a fixed batch makes constant."""
    return torch.where(index >= 0, index, 0)


def gather(values: Tensor, index: Tensor) -> Tensor:
    """Rows `index` [B, K] of `values` [B, N, C] or [B, N], per example; -1 reads row 0."""
    index = readable(index)
    if values.dim() == 2:
        return values.gather(1, index)
    if torch.onnx.is_in_onnx_export():
        # Much faster in ONNX Runtime than GatherElements over every channel, which is what torch's gather becomes.
        shape = (*index.shape, values.shape[-1])
        return torch.onnx.ops.symbolic(
            "GatherND", (values, index[..., None]), {"batch_dims": 1}, dtype=values.dtype, shape=shape, version=13
        )
    # Whole rows are copied; torch's gather looks up every channel.
    first = torch.arange(values.shape[0], device=index.device)[:, None] * values.shape[1]
    return values.flatten(0, 1).index_select(0, (index + first).flatten()).reshape(*index.shape, values.shape[-1])
