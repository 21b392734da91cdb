"""The settings of published PuMer folders, as edits."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from pumer_convert.amount import Amount
from pumer_convert.errors import InputError
from pumer_convert.models.values import wrong
from pumer_convert.rules import Rule

_SHARE, _LAYER = Rule(float, optional=True), Rule(int)


def reference_section(
    config: Mapping[str, Any], site: str, per_site: int, layers: int, where: object
) -> dict[str, Any]:
    """The "pumer" section of a published PuMer config: reference semantics, one edit per layer it reduces.

    `per_site` is how many of its layer numbers one of our layers takes (2 in METER). Numbers that the published code
    never reaches (odd ones in METER) give no edit; nor does a prune ratio of zero, at which it does nothing at all.
    Raises InputError for settings of that code which are another method, and for values that cannot be.
    """
    for key in ("prune_r", "merge_r", "merge_text"):
        if not _SHARE.holds(config.get(key)):
            raise wrong(where, key, config[key], f"allowed: {_SHARE.allowed}")
    reached = config.get("reduce_layers") or []
    if not isinstance(reached, list) or not all(_LAYER.holds(number) for number in reached):
        raise wrong(where, "reduce_layers", reached, "it has to be a list of numbers of layers")
    if config.get("prune_layers"):
        raise InputError("a PuMer folder with prune_layers has learned token predictors, which are not supported.")
    method = config.get("sim_method", "mean_head")
    if site == "encoder" and config.get("reduce_layers") and method not in ("mean_head", "mh"):
        raise InputError(f"a PuMer folder with sim_method '{method}' is not supported; only mean_head is.")
    if site == "encoder" and config.get("reduce_layers") and config.get("merge_style", "tome") != "tome":
        raise InputError(f"a PuMer folder with merge_style '{config['merge_style']}' is not supported; only tome is.")
    prune, merge, text = (_share(config.get(k) or 0) for k in ("prune_r", "merge_r", "merge_text"))
    acts = not prune.is_nothing
    if site == "encoder" and not acts and float(config.get("merge_r") or 0) >= 1:
        raise InputError("a PuMer folder with merge_r of 1 or more is plain ToMe over both modalities: not supported.")
    if site == "fusion" and merge.is_nothing:
        prune = merge  # METER's code merges the text, but takes the image from before its pruning
    amounts = [("prune", "image", prune), ("merge", "image", merge), ("merge", "text", text)]
    actions = [
        {
            "op": op,
            "modality": modality,
            "amount": amount.to_json(),
            "by": "relevance" if op == "prune" else "bsm",
        }
        for op, modality, amount in amounts
        if not amount.is_nothing
    ]
    numbers = sorted({n // per_site for n in reached if n % per_site == 0})
    edits = [{"at": f"{site}.{n}", "actions": actions} for n in numbers if n < layers] if acts and actions else []
    return {
        "version": 1,
        "semantics": "reference",
        "attention": "reference",
        "proportional_attention": False,
        "edits": edits,
    }


def _share(value: float) -> Amount:
    return Amount.share(Fraction(str(value)))
