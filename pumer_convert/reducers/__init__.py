"""Reducer kinds. A kind is one file with a class (see base.py) and one line here."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pumer_convert.amount import Amount
from pumer_convert.rules import Rule

if TYPE_CHECKING:
    from pumer_convert.reducers.base import BaseReducer

Cost = Callable[[int, int, int, int], int]
"""Multiply-accumulates of reducing n tokens by `gone`: cost(n, gone, width, key_width), where `width` is that of the
hidden states and `key_width` that of the keys."""


@dataclass(frozen=True)
class Param:
    """A parameter of a kind, which a recipe may give by its name; the class takes it by that name too.

    `falls`: at layer l of a stack of L it is (1 - l / L) of what the recipe says. `texts`: the recipe names a file of
    texts, and the model makes the value of them.
    """

    default: Any
    rule: Rule
    falls: bool = False
    texts: bool = False


@dataclass(frozen=True)
class Kind:
    """What is known of a kind without torch: its class as "module:Class", what it costs, how many of n tokens it ranks
    in one go where `gone` are removed (ranks(n, gone)), and its parameters.

    `score` is what the model has to compute of its image tokens where they are pruned ("relevance": how much the text
    asks for a token, PuMer; "cls_attention": how much the image's own CLS attends to it, EViT, Liang et al. 2022;
    "probe_attention": how much the probe that pools the image would; "column_attention": how much all its tokens do;
    "attention": that of CLS, or of all where there is none, VisionZip; "codebook": what a codebook takes from it;
    "features": no more than the tokens of a projector), None where nothing is asked of the model. `loop`: its graph has
    a loop. `sums`: of pruning, whether tokens that stay take up others. `side`: of a projector, and of a block before a
    codebook, where it stands unless the recipe says otherwise ("before" or "after").
    """

    place: str
    cost: Cost = lambda n, gone, width, key_width: 0
    score: str | None = None
    ranks: Callable[[int, int], int] = lambda n, gone: n
    loop: bool = False
    sums: bool = False
    side: str = "before"
    params: Mapping[str, Param] = field(default_factory=dict)

    def load(self) -> "type[BaseReducer]":
        """Its class."""
        module, name = self.place.split(":")
        found: type[BaseReducer] = getattr(importlib.import_module(module), name)
        return found


def halves(n: int, gone: int, width: int, key_width: int) -> int:
    """Even with odd tokens: similarities of keys, and the mixing of states by a product."""
    half = n // 2
    return (n - half) * half * (key_width + width)


def ranked_halves(n: int, gone: int) -> int:
    """The even tokens, and then those that are left."""
    return max(n - n // 2, n - gone)


def energies(n: int, gone: int, width: int, key_width: int) -> int:
    """Each with each, then only what merges."""
    return n * n * key_width + gone * gone * (key_width + width)


def summaries(n: int, gone: int, width: int, key_width: int) -> int:
    """Similarities of all keys, and the mixing of what is gone into what is left."""
    return n * n * key_width + (n - gone) * n * width


def picks(n: int, gone: int, width: int, key_width: int) -> int:
    """One token after the other, each compared with all; their similarities are counted with the features."""
    return (n - gone) * n


def explained(n: int, gone: int, width: int, key_width: int) -> int:
    """The same, and what all those before it explain of all."""
    return (n - gone) * n * (1 + n - gone)


MARGIN = Param(0.9, Rule(float, least=0, most=1), falls=True)
"""PiToMe's margin of similarity (equation 4): what counts as alike grows wider with depth."""

CONTEXTUAL = Param(0.15625, Rule(float, least=0, most=1, below=True))
"""The share of VisionZip's tokens that sum up others: 10 of 64, as published."""

PRUMERGE = {"neighbors": Param(32, Rule(int, least=1, most=4096)), "spatial": Param(0.0, Rule(float, least=0, most=1))}
"""How many tokens come to each that PruMerge keeps, and the share of those kept at even distances: 0.5 in PruMerge+."""

CODES = Param(None, Rule(list, optional=True), texts=True)
"""The codes that some texts use; None: all."""

_HERE = "pumer_convert.reducers"
KINDS: dict[str, dict[str, Kind]] = {
    "prune": {
        "relevance": Kind(f"{_HERE}.prune:PruneReducer", score="relevance"),
        "cls_attention": Kind(f"{_HERE}.prune:PruneReducer", score="cls_attention"),
        "probe_attention": Kind(f"{_HERE}.prune:PruneReducer", score="probe_attention"),
        "column_attention": Kind(f"{_HERE}.prune:PruneReducer", score="column_attention"),
        "codebook": Kind(
            f"{_HERE}.codebook_prune:CodebookPruneReducer", score="codebook", side="after", params={"codes": CODES}
        ),
        "random": Kind(f"{_HERE}.random_prune:RandomPruneReducer"),
        "uniform": Kind(f"{_HERE}.uniform_prune:UniformPruneReducer"),
        "divprune": Kind(f"{_HERE}.divprune:DivPruneReducer", picks, "features", loop=True, side="after"),
        "cdpruner": Kind(f"{_HERE}.cdpruner:CdPrunerReducer", explained, "features", loop=True, side="after"),
        "prumerge": Kind(f"{_HERE}.prumerge:PruMergeReducer", summaries, "cls_attention", sums=True, params=PRUMERGE),
        "visionzip": Kind(
            f"{_HERE}.visionzip:VisionZipReducer",
            summaries,
            "attention",
            sums=True,
            params={"contextual": CONTEXTUAL},
        ),
    },
    "merge": {
        "bsm": Kind(f"{_HERE}.merge:MergeReducer", halves, ranks=ranked_halves),
        "tome": Kind(f"{_HERE}.merge:MergeReducer", halves, ranks=ranked_halves),
        "pitome": Kind(f"{_HERE}.pitome:PitomeReducer", energies, params={"margin": MARGIN}),
    },
}
"""What a recipe's `by:` may say, per operation; the first is the default.

Pruning by "random" and at even distances ("uniform") looks at nothing, the baselines; "divprune" and "cdpruner" keep
tokens of a projector that differ; "prumerge" and "visionzip" sum up those that CLS does not attend to. Merging never
asks the text: "bsm" is PuMer's matching of neighbours by their keys, which without the quirks of the published code is
that of ToMe (Bolya et al., 2023), and "tome" is its name in a vision tower; "pitome" spares the tokens that are like
few others.
"""

REFERENCE_KINDS: dict[str, dict[str, Kind]] = {
    "prune": {"relevance": Kind(f"{_HERE}.reference_prune:ReferencePruneReducer", score="relevance")},
    "merge": {"bsm": Kind(f"{_HERE}.reference_merge:ReferenceMergeReducer", halves)},
}
"""The same under `semantics: reference`: the published behaviour with its quirks."""

WITHOUT = {
    "relevance": "where the text has not met the image",
    "cls_attention": "whose image has no CLS",
    "attention": "whose image has no CLS",
    "column_attention": "whose image has a CLS or has met the text",
    "probe_attention": "whose image no probe pools",
    "codebook": "whose image is not read by the strongest tokens of a codebook",
    "features": "which gives nothing to a language model",
}
"""Why a site cannot give a score, as what is said behind its name."""

SIDES = ("before", "after")
UNMERGE = ("before_projector",)
"""Where tokens that merged can get their places back: before a projector."""


def side_of(actions: Iterable[Mapping[str, Any]], semantics: str = "default") -> str:
    """On which side of a projector the actions of a config stand where it does not say so: before it, unless a kind
    among those that remove anything stands behind it."""
    found = {
        kinds_of(semantics)[action["op"]][action["by"]].side
        for action in actions
        if not Amount.from_json(action["amount"]).is_nothing
    }
    return SIDES[1] if SIDES[1] in found else SIDES[0]


def kinds_of(semantics: str) -> Mapping[str, Mapping[str, Kind]]:
    """The kinds under "default" or "reference" semantics."""
    return REFERENCE_KINDS if semantics == "reference" else KINDS
