"""Reducer kinds. A reducer is a module with a class `Reducer` (see base.py) and one line here."""

KINDS = {
    "prune": {
        "relevance": "pumer_convert.reducers.prune",
        "cls_attention": "pumer_convert.reducers.prune",
        "random": "pumer_convert.reducers.random_prune",
    },
    "merge": {"bsm": "pumer_convert.reducers.merge"},
}
"""What a recipe's `by:` may say, per operation; the first is the default.

In pruning it names the score of the image tokens, which the model computes where it knows that name: "relevance" is how
much the text asks for a token (PuMer), "cls_attention" how much the image's own CLS attends to it (EViT, Liang et al.
2022), the baseline without text guidance.
"""

REFERENCE_KINDS = {
    "prune": {"relevance": "pumer_convert.reducers.reference_prune"},
    "merge": {"bsm": "pumer_convert.reducers.reference_merge"},
}
"""The same under `semantics: reference`: the published behaviour with its quirks."""
