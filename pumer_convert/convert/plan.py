"""Recipe + model shape -> Plan: the tokens and the multiply-accumulates of every layer, before any weight is read."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pumer_convert.amount import Amount
from pumer_convert.errors import InputError
from pumer_convert.models.spec import Layer, Lengths, ModelSpec, in_ranges, removed
from pumer_convert.recipe.schema import Action, Recipe, StepSpec
from pumer_convert.reducers import KINDS, WITHOUT, kinds_of, side_of

TOP_K = 3840
"""The most that TensorRT's TopK takes; a longer sequence would build and then fail."""


@dataclass(frozen=True)
class PlanRow:
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
    config.json will record: one {"at": site, "actions": [...]} per site, and "side" and "unmerge" where the recipe says
    them.
    `parts` are the dense and the reduced MACs, reducers included, of the parts that the layers name.
    """

    rows: tuple[PlanRow, ...]
    dense_macs: int
    macs: int
    reducer_macs: int
    text_length: int
    edits: tuple[dict[str, Any], ...]
    parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Dense MACs over reduced ones, the reducers' own included: the speed to expect at best."""
        return self.dense_macs / (self.macs + self.reducer_macs)

    def to_json(self) -> dict[str, Any]:
        """Plain values for report.json; of parts where there are several."""
        values = asdict(self)
        if not self.parts:
            del values["parts"]
        return {**values, "ratio": round(self.ratio, 4)}


def edits_of(recipe: Recipe, spec: ModelSpec) -> tuple[dict[str, Any], ...]:
    """The recipe as edits in the order of the layers. Raises InputError for a site that the model has not."""
    at: dict[str, dict[str, Any]] = {}
    for step in recipe.steps:
        for site in step.sites:
            layer = next((layer for layer in spec.layers if layer.site == site), None)
            if layer is None:
                why = _whole(spec) if site.startswith("text") or not spec.sites else ""
                raise recipe.error(step.line, f"at: the model has no site '{site}'; {_sites(spec)}{why}.")
            if problem := _problem(recipe, step, layer, spec):
                raise recipe.error(step.line, problem)
            actions = [_edit(action, layer, recipe.semantics) for action in step.actions]
            at[site] = {"at": site, **step.manner, "actions": actions}
    _check_unmerged(recipe, spec, at)
    return tuple(at[site] for site in spec.sites if site in at)


def _check_unmerged(recipe: Recipe, spec: ModelSpec, at: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises InputError where tokens would come back of which some are gone."""
    other = next((site for site, edit in at.items() if "unmerge" in edit), None)
    for step in recipe.steps if other is not None else ():
        for layer in spec.layers:
            if layer.site in step.sites and layer.unmerges and step.unmerge is None:
                told = f"unmerge: {other} says it, and {layer.site} does not; say it at every site of the tower"
                raise recipe.error(step.line, f"{told}, or nowhere.")


def pumer_section(
    recipe: Recipe, edits: Sequence[dict[str, Any]] = (), old_size: Any = None, fit: str | None = None
) -> dict[str, Any]:
    """What config.json records of a recipe under "pumer"; `old_size` is the dense checkpoint's image size, of which a
    recipe that changes it leaves a record; `fit` is how pictures fit from now on, if that is new."""
    choices = {**recipe.choices, "fit": fit}
    return {
        "version": 1,
        **({"image_size": {"from": old_size, "to": recipe.image_size}} if recipe.image_size else {}),
        **{key: value for key, value in choices.items() if value is not None},
        "semantics": recipe.semantics,
        "attention": "reference" if recipe.semantics == "reference" else "fused",
        "proportional_attention": recipe.proportional_attention,
        "edits": list(edits),
    }


def _edit(action: Action, layer: Layer, semantics: str) -> dict[str, Any]:
    edit: dict[str, Any] = {
        "op": action.op,
        "modality": action.modality,
        "amount": action.amount.to_json(),
        "by": action.by,
    }
    params = kinds_of(semantics)[action.op][action.by].params
    return edit | {
        name: value * (1 - layer.depth) if params[name].falls else value for name, value in action.params.items()
    }


def _problem(recipe: Recipe, step: StepSpec, layer: Layer, spec: ModelSpec) -> str | None:
    """What the step asks for that this layer has not, as a sentence."""
    site = layer.site
    if recipe.semantics == "reference" and not (spec.published and layer.modalities == ("image", "text")):
        return f"semantics: reference has no reducers at {site}, nor has the published method; use semantics: default."
    if step.side is not None and layer.after is None:
        return f"side: {site} is inside a layer; leave the key out, which says on which side of a projector to reduce."
    if step.unmerge is not None and step.unmerge not in layer.unmerges:
        return f"unmerge: nothing behind {site} takes tokens back at their places; leave the key out."
    if step.unmerge is None and layer.gridded:
        words = " or ".join(layer.unmerges)
        return f"unmerge: what follows {site} takes every place of a grid; say unmerge: {words}, and merge there alone."
    if step.unmerge is not None and any(action.op == "prune" for action in step.actions):
        return f"unmerge: what is pruned at {site} has no token to come back as; merge there alone."
    for action in step.actions:
        if action.modality not in layer.modalities:
            told = f"{action.op}: no {action.modality} runs through {site}, so it cannot be reduced there"
            return f"{told}{_whole(spec) if action.modality == 'text' else ''}."
        kinds = kinds_of(recipe.semantics)[action.op]
        if (score := kinds[action.by].score) is not None and score not in layer.scores:
            allowed = [by for by, kind in kinds.items() if kind.score is None or kind.score in layer.scores]
            return (
                f"prune.by cannot be '{action.by}' at {site}, {WITHOUT[score]}; "
                f"allowed there: {', '.join(allowed)}, or merge instead."
            )
    return None


def make_plan(
    spec: ModelSpec,
    edits: Sequence[dict[str, Any]],
    text_length: int,
    original: ModelSpec | None = None,
    graph: str | None = None,
) -> Plan:
    """Tokens and MACs of every layer at `text_length` text tokens (CLS included). `original` is the dense model where
    that is of another image size; `graph`: count the layers of that graph alone.

    Raises InputError when the text is longer than the model's positions or an image is too long for TopK.
    """
    if not spec.max_text or (spec.text is not None and spec.text.length is not None):
        text_length = 0 if spec.text is None else spec.text.length or 0
    elif not 2 <= text_length <= spec.max_text:
        raise InputError(f"a text of {text_length} tokens does not fit; this model takes 2 to {spec.max_text}.")
    at = {edit["at"]: edit for edit in edits}
    original = original or spec
    dense = Lengths(original.image_tokens, text_length)
    now, rows, parts = Lengths(spec.image_tokens, text_length), [], dict[str, tuple[int, int]]()
    for layer, whole in zip(spec.layers, original.layers, strict=True):
        if not spec.holds(graph, layer):
            continue
        now, dense = now.entering(layer), dense.entering(whole)
        after, own = now, 0
        if layer.site in at:
            actions = at[layer.site]["actions"]
            layer = layer.on(at[layer.site].get("side") or side_of(actions))
            scores = {KINDS[action["op"]][action["by"]].score for action in actions}
            if "features" in scores:  # which are then compared, in place of keys
                layer = replace(layer, key_width=layer.width)
            after, own = _reduce(now, actions, layer)
            own += sum(layer.scores[score](now, after) for score in scores if score is not None)
        rows.append(
            PlanRow(
                layer.name,
                now.image,
                after.image,
                now.text,
                after.text,
                whole.cost(dense, dense),
                layer.cost(now, after),
                own,
            )
        )
        now = after
        if layer.part:
            whole_part, part = parts.get(layer.part, (0, 0))
            parts[layer.part] = whole_part + rows[-1].dense_macs, part + rows[-1].macs + own
    return Plan(
        rows=tuple(rows),
        dense_macs=spec.images * sum(r.dense_macs for r in rows) + spec.head,
        macs=spec.images * sum(r.macs for r in rows) + spec.head,
        reducer_macs=spec.images * sum(r.reducers for r in rows),
        text_length=text_length,
        edits=tuple(edits),
        parts=parts,
    )


def _reduce(before: Lengths, actions: Sequence[dict[str, Any]], layer: Layer) -> tuple[Lengths, int]:
    now = {"image": before.image, "text": before.text}
    entry, own = dict(now), 0
    for action in actions:
        modality = action["modality"]
        n = now[modality]
        gone = removed(action, entry[modality], n, layer.frozen)
        # A kind of the reference semantics costs what its mended namesake does.
        kind = KINDS[action["op"]][action["by"]]
        if gone:
            own += kind.cost(n, gone, layer.width, layer.key_width)
        if not Amount.from_json(action["amount"]).is_nothing and (ranked := kind.ranks(n, gone)) > TOP_K:
            raise InputError(
                f"{action['op']} by {action['by']} at {layer.site} ranks {ranked} {modality} tokens, more than the "
                f"{TOP_K} that TensorRT's TopK takes; choose a smaller image size, or reduce more there."
            )
        now[modality] = n - gone
    return Lengths(now["image"], now["text"], before.towers if layer.beside else None), own


def _sites(spec: ModelSpec) -> str:
    return "it has " + (" and ".join(in_ranges(spec.sites)) or "none")


def _whole(spec: ModelSpec) -> str:
    return f"; {spec.text_whole}" if spec.text_whole else ""
