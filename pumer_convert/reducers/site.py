"""All reducers of one site, in the order of PuMer: prune the image, merge the image, merge the text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from pumer_convert.amount import Amount
from pumer_convert.reducers import kinds_of, side_of
from pumer_convert.reducers.base import BaseReducer, Guide
from pumer_convert.tokens import Tokens


@dataclass
class Trace:
    """What the reducers of one forward pass decided.

    `given`: decisions to follow, by name ("fusion.0/prune.image"); the others are taken freely. The rest is filled in
    as the pass goes on; `slack` and `differing`, the number of entries that the reducer would have chosen otherwise in
    the same situation, of given decisions alone.
    """

    given: Mapping[str, Tensor] = field(default_factory=dict)
    taken: dict[str, Tensor] = field(default_factory=dict)
    slack: dict[str, Tensor] = field(default_factory=dict)
    differing: dict[str, int] = field(default_factory=dict)


class SiteReducers(nn.Module):
    """The reducers of one site.

    `actions` is a list of {"op", "modality", "amount", "by"} as config.json records them; see `Amount.to_json`. What
    else an action says are parameters of its kind. `score` names what the model has to compute of the image tokens (see
    `Kind`), None when that is nothing, and `side` where at a layer they stand (see `side_of`; None: as their kinds
    do). `unmerge` is where the model is to give back their places to the tokens that merged, None: nowhere. With
    `proportional`, attention counts what was merged here by its size.
    """

    def __init__(
        self,
        site: str,
        actions: Sequence[Mapping[str, Any]],
        semantics: str = "default",
        proportional: bool = False,
        side: str | None = None,
        unmerge: str | None = None,
    ) -> None:
        super().__init__()
        self.site, self.proportional, self.unmerge = site, proportional, unmerge
        self.side = side or side_of(actions, semantics)
        kinds = kinds_of(semantics)
        self.prune: nn.ModuleDict = nn.ModuleDict()
        self.merge: nn.ModuleDict = nn.ModuleDict()
        self.score: str | None = None
        for action in actions:
            amount = Amount.from_json(action["amount"])
            if amount.is_nothing:
                continue
            kind = kinds[action["op"]][action["by"]]
            params = {name: action[name] for name in kind.params if name in action}
            getattr(self, action["op"])[action["modality"]] = kind.load()(amount, **params)
            self.score = kind.score or self.score

    def forward(self, image: Tokens, text: Tokens, score: Tensor | None, trace: Trace) -> tuple[Tokens, Tokens]:
        """Reduce both; `score` [B, N] float32 is of the image tokens. The results have no keys."""
        image = self.of_image(image, score, trace)
        text = self._run(self.merge, "merge", "text", text, Guide(text.mask), trace)
        return image, replace(text, keys=None, proportional=self.proportional)

    def of_image(self, image: Tokens, score: Tensor | None, trace: Trace) -> Tokens:
        """Reduce the image alone, as in a tower that the text has not met."""
        guide = Guide(image.mask, score)
        image = self._run(self.prune, "prune", "image", image, guide, trace)
        image = self._run(self.merge, "merge", "image", image, guide, trace)
        return replace(image, keys=None, proportional=self.proportional)

    def _run(
        self, reducers: nn.ModuleDict, op: str, modality: str, tokens: Tokens, guide: Guide, trace: Trace
    ) -> Tokens:
        if modality not in reducers:
            return tokens
        reducer = reducers[modality]
        assert isinstance(reducer, BaseReducer)
        name = f"{self.site}/{op}.{modality}"
        given = trace.given.get(name)
        if given is not None:
            trace.differing[name] = int((reducer(tokens, guide).decision != given).sum())
        result = reducer(tokens, replace(guide, decision=given))
        trace.taken[name] = result.decision
        if result.slack is not None:
            trace.slack[name] = result.slack
        return result.tokens  # type: ignore[no-any-return]
