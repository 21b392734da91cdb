"""Recipe + model shape -> Plan: the tokens and the multiply-accumulates of every layer, before any weight is read."""

import importlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

from pumer_convert.amount import Amount
from pumer_convert.errors import InputError, nearest
from pumer_convert.models import FAMILIES
from pumer_convert.models.outline import Lengths, Outline
from pumer_convert.recipe import Recipe

TOP_K = 3840
"""The most that TensorRT's TopK takes; a longer sequence would build and then fail."""


@dataclass(frozen=True)
class Row:
    """One layer of a plan; MACs are per image pass. `reducers` is what the reducers themselves cost there."""

    layer: str
    image_in: int
    image_out: int
    text_in: int
    text_out: int
    dense_macs: int
    macs: int
    reducers: int


@dataclass(frozen=True)
class Plan:
    """What a recipe does to a model.

    `rows` are the layers; `dense_macs`, `macs` and `reducer_macs` the whole, per example; `edits` is what
    config.json will record: one {"at": site, "actions": [...]} per site.
    """

    rows: tuple[Row, ...]
    dense_macs: int
    macs: int
    reducer_macs: int
    text_length: int
    edits: tuple[dict[str, Any], ...]

    @property
    def ratio(self) -> float:
        """Dense MACs over reduced ones, the reducers' own included: the speed to expect at best."""
        return self.dense_macs / (self.macs + self.reducer_macs)

    def to_json(self) -> dict[str, Any]:
        """Plain values for report.json."""
        return {**asdict(self), "ratio": round(self.ratio, 4)}


def family_module(name: str) -> ModuleType:
    """The module of a model family. Raises InputError when there is none of that name."""
    if name not in FAMILIES:
        raise InputError(f"there is no model family '{name}'; known: {', '.join(FAMILIES)}.{nearest(name, FAMILIES)}")
    return importlib.import_module(FAMILIES[name])


def edits_of(recipe: Recipe, outline: Outline) -> tuple[dict[str, Any], ...]:
    """The recipe as edits in the order of the layers. Raises InputError for a site that the model has not."""
    at: dict[str, list[dict[str, Any]]] = {}
    for step in recipe.steps:
        for site in step.sites:
            if site not in outline.sites:
                raise recipe.error(step.line, f"at: the model has no site '{site}'; {_sites(outline)}")
            at[site] = [
                {"op": a.op, "modality": a.modality, "amount": a.amount.to_json(), "by": a.by} for a in step.actions
            ]
    return tuple({"at": site, "actions": at[site]} for site in outline.sites if site in at)


def make_plan(outline: Outline, edits: Sequence[dict[str, Any]], text_length: int) -> Plan:
    """Tokens and MACs of every layer at `text_length` text tokens (CLS included).

    Raises InputError when the text is longer than the model's positions or an image is too long for TopK.
    """
    if not 2 <= text_length <= outline.max_text:
        raise InputError(f"a text of {text_length} tokens does not fit; this model takes 2 to {outline.max_text}.")
    actions = {edit["at"]: edit["actions"] for edit in edits}
    if edits and outline.image_tokens > TOP_K:
        raise InputError(
            f"{outline.image_tokens} image tokens are more than the {TOP_K} that TensorRT's TopK takes; "
            "choose a smaller image size."
        )
    dense = Lengths(outline.image_tokens, text_length)
    now, rows = dense, []
    for layer in outline.layers:
        after, own = now, 0
        if layer.site in actions:
            after, own = _reduce(now, actions[layer.site], outline)
            asked = {a["by"] for a in actions[layer.site] if a["op"] == "prune"}
            own += sum(layer.scores[score](now, after) for score in asked if score in layer.scores)
        rows.append(
            Row(
                layer.name,
                now.image,
                after.image,
                now.text,
                after.text,
                layer.cost(dense, dense),
                layer.cost(now, after),
                own,
            )
        )
        now = after
    return Plan(
        rows=tuple(rows),
        dense_macs=outline.passes * sum(r.dense_macs for r in rows) + outline.head,
        macs=outline.passes * sum(r.macs for r in rows) + outline.head,
        reducer_macs=outline.passes * sum(r.reducers for r in rows),
        text_length=text_length,
        edits=tuple(edits),
    )


def _reduce(before: Lengths, actions: Sequence[dict[str, Any]], outline: Outline) -> tuple[Lengths, int]:
    now = {"image": before.image, "text": before.text}
    entry, own = dict(now), 0
    for action in actions:
        kind, amount = action["modality"], Amount.from_json(action["amount"])
        n = now[kind]
        prune = action["op"] == "prune"
        gone = min(int(amount.removed(entry[kind], n)), n - 1 if prune else (n - 1) // 2)
        if not prune and gone:
            half = n // 2
            own += (n - half) * half * (outline.key_width + outline.width)
        now[kind] = n - gone
    return Lengths(now["image"], now["text"]), own


def _sites(outline: Outline) -> str:
    last: dict[str, int] = {}
    for site in outline.sites:
        name, number = site.rsplit(".", 1)
        last[name] = int(number)
    return "it has " + " and ".join(f"{name}.0-{number}" for name, number in last.items()) + "."
