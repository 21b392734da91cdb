"""The "pumer" section of a config.json, which records a checkpoint's reductions: whether it can be replayed."""

from collections.abc import Mapping
from typing import Any

from pumer_convert.amount import Amount
from pumer_convert.errors import InputError
from pumer_convert.models.family import Family
from pumer_convert.models.spec import Layer
from pumer_convert.reducers import SIDES, Kind, kinds_of
from pumer_convert.rules import Rule

_VALUES: dict[str, tuple[Any, ...]] = {
    "version": (1,),
    "semantics": ("default", "reference"),
    "attention": ("fused", "reference"),
    "proportional_attention": (False, True),
}
POSITIONS = ("original", "renumbered")
"""Which positions a language model gives to what is left of a picture: those among all of it, the first one after the
other; the first holds where nothing is said."""
_COUNT = Rule(int)


def check_reductions(config: Mapping[str, Any], family: Family, where: object) -> None:
    """Raises InputError when the section is not one that this version wrote, or names what the model has not."""
    if "pumer" not in config:
        return
    pumer = config["pumer"]
    edits = pumer.get("edits", []) if isinstance(pumer, Mapping) else None
    if not isinstance(pumer, Mapping) or not isinstance(edits, list):
        raise _wrong(where, "pumer", "not an object with a list of edits")
    choices = {key: tuple(word for word in words if word is not None) for key, words in family.choices.items()}
    allowed = {**_VALUES, **choices, **({} if family.generation is None else {"positions": POSITIONS})}
    for key, value in pumer.items():
        if key in allowed and not any(
            value is one or (value == one and type(value) is type(one)) for one in allowed[key]
        ):
            raise _wrong(where, f"pumer.{key}", f"{value!r}, not one of {', '.join(map(str, allowed[key]))}")
        if key not in (*allowed, "edits", "image_size"):
            raise _wrong(where, f"pumer.{key}", "not known")
    spec = family.spec({**config, "pumer": {**pumer, "edits": []}})  # which may count by edits that hold
    if pumer.get("semantics") == "reference" and not spec.published:
        raise _wrong(where, "pumer.semantics", "'reference', which this model has not")
    if "image_size" in pumer and not _is_change(pumer["image_size"]):
        raise _wrong(where, "pumer.image_size", f"{pumer['image_size']!r}, not sizes from and to")
    kinds = kinds_of(pumer.get("semantics", "default"))
    layers, seen = {layer.site: layer for layer in spec.layers if layer.site is not None}, set()
    for number, edit in enumerate(edits):
        name = f"pumer.edits[{number}]"
        site = edit.get("at") if isinstance(edit, Mapping) else None
        actions = edit.get("actions") if isinstance(edit, Mapping) else None
        if not isinstance(site, str) or site not in layers or site in seen:
            raise _wrong(where, name, f"at {site!r}, which is no site of the model or named twice")
        seen.add(site)
        if "side" in edit and (edit["side"] not in SIDES or layers[site].after is None):
            raise _wrong(where, f"{name}.side", f"{edit['side']!r}, which that site has not")
        unmerge = edit.get("unmerge")
        if unmerge not in (layers[site].unmerges if layers[site].gridded else (None, *layers[site].unmerges)):
            raise _wrong(where, f"{name}.unmerge", f"{unmerge!r}, which that site has not")
        pruned = isinstance(actions, list) and any(isinstance(a, Mapping) and a.get("op") == "prune" for a in actions)
        if unmerge is not None and pruned:
            raise _wrong(where, name, "a prune whose tokens cannot come back")
        if unknown := set(edit) - {"at", "side", "unmerge", "actions"}:
            raise _wrong(where, f"{name}.{min(unknown, key=str)}", "not known")
        if not isinstance(actions, list) or not all(_is_action(action, layers[site], kinds) for action in actions):
            raise _wrong(where, name, "not actions that are known at that site")


def told_codes(config: Mapping[str, Any]) -> dict[str, int]:
    """How many codes of a codebook a site is pruned by, where these are told; of a config that may be unchecked."""
    pumer = config.get("pumer")
    edits = pumer.get("edits") if isinstance(pumer, Mapping) else None
    found: dict[str, int] = {}
    for edit in edits if isinstance(edits, list) else ():
        actions = edit.get("actions") if isinstance(edit, Mapping) else None
        for action in actions if isinstance(actions, list) else ():
            if isinstance(action, Mapping) and isinstance(action.get("codes"), list):
                found[str(edit.get("at"))] = len(action["codes"])
    return found


def _wrong(where: object, key: str, why: str) -> InputError:
    return InputError(f"{where}: {key} in its config is {why}; apply the recipe once more.")


def _is_change(value: Any) -> bool:
    return isinstance(value, Mapping) and set(value) == {"from", "to"}


def _is_action(action: Any, layer: Layer, kinds: Mapping[str, Mapping[str, Kind]]) -> bool:
    if not isinstance(action, Mapping):
        return False
    op, by, modality = (action.get(key) for key in ("op", "by", "modality"))
    if not (isinstance(op, str) and isinstance(by, str) and by in kinds.get(op, {}) and modality in layer.modalities):
        return False
    kind = kinds[op][by]
    if set(action) != {"op", "modality", "amount", "by", *kind.params} or (op == "prune" and modality != "image"):
        return False
    params = all(param.rule.holds(action[name]) for name, param in kind.params.items())
    params = params and all(code < layer.codes for code in action.get("codes") or ())
    return params and (kind.score is None or kind.score in layer.scores) and _is_amount(action["amount"])


def _is_amount(value: Any) -> bool:
    if not isinstance(value, Mapping) or len(value) != 1:
        return False
    ((key, told),) = value.items()
    if key in ("keep", "drop"):
        return _COUNT.holds(told)
    try:
        amount = Amount.from_json(dict(value)) if isinstance(told, str) else None
    except (ValueError, ZeroDivisionError, KeyError):
        return False
    return amount is not None and amount.num >= 0
