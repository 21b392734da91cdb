"""Reducer kinds. A reducer is a module with a class `Reducer` (see base.py) and one line here."""

KINDS = {
    "prune": {"relevance": "pumer_convert.reducers.prune"},
    "merge": {"bsm": "pumer_convert.reducers.merge"},
}
"""What a recipe's `by:` may say, per operation; the first is the default."""

REFERENCE_KINDS = {
    "prune": {"relevance": "pumer_convert.reducers.reference_prune"},
    "merge": {"bsm": "pumer_convert.reducers.reference_merge"},
}
"""The same under `semantics: reference`: the published behaviour with its quirks."""
