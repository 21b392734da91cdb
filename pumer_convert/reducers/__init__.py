"""Reducer kinds. A reducer is a module with a class `Reducer` (see base.py) and one line here."""

KINDS = {
    "prune": {
        "relevance": "pumer_convert.reducers.prune",
        "cls_attention": "pumer_convert.reducers.prune",
        "random": "pumer_convert.reducers.random_prune",
    },
    "merge": {
        "bsm": "pumer_convert.reducers.merge",
        "tome": "pumer_convert.reducers.merge",
        "pitome": "pumer_convert.reducers.pitome",
    },
}
"""What a recipe's `by:` may say, per operation; the first is the default.

In pruning it names the score of the image tokens, which the model computes where it knows that name: "relevance" is how
much the text asks for a token (PuMer), "cls_attention" how much the image's own CLS attends to it (EViT, Liang et al.
2022), the baseline without text guidance; "random" looks at nothing. Merging never asks the text: "bsm" is PuMer's
matching of neighbours by their keys, which without the quirks of the published code is that of ToMe (Bolya et al.,
2023), and "tome" is its name in a vision tower; "pitome" spares the tokens that are like few others.
"""

MARGIN = 0.9
"""PiToMe's margin of similarity at the first layer of a tower such as CLIP's; layer l of L has (1 - l / L) of it."""
WITH_MARGIN = ("pitome",)
"""The kinds of merging that a recipe may give a `margin`."""

REFERENCE_KINDS = {
    "prune": {"relevance": "pumer_convert.reducers.reference_prune"},
    "merge": {"bsm": "pumer_convert.reducers.reference_merge"},
}
"""The same under `semantics: reference`: the published behaviour with its quirks."""
