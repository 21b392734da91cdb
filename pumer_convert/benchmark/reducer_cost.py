"""What a reduced ONNX model would be if its reducers cost nothing: the reducers' share of its time, in any provider."""

from pathlib import Path

import onnx
import onnx.parser

from pumer_convert.reducers.base import AMOUNT, CONSTANTS, wanted

DOMAIN = "pumer"
PRUNE = f"""
    <domain: "{DOMAIN}", opset_import: ["" : 20]>
    Prune <num: int, den: int, drop: int, keep: int>
        (states, keys, size, mask, relevance) => (kept_states, kept_keys, kept_size, kept_mask, index)
    {{
        {CONSTANTS}
        n = Shape <start = 1, end = 2> (states)
        {AMOUNT}
        {wanted("wanted", "n", "n")}
        rest = Sub (n, wanted)
        k = Max (rest, one)
        kept_states = Slice (states, zero, k, one, one)
        kept_keys = Slice (keys, zero, k, one, one)
        kept_size = Slice (size, zero, k, one, one)
        kept_mask = Slice (mask, zero, k, one, one)
        index = Cast <to = 7> (kept_mask)
    }}
"""
MERGE = f"""
    <domain: "{DOMAIN}", opset_import: ["" : 20]>
    Merge <num: int, den: int, drop: int, keep: int>
        (states, keys, size, mask, entry) => (merged_states, merged_size, merged_mask, target)
    {{
        {CONSTANTS}
        n = Shape <start = 1, end = 2> (states)
        n_entry = Shape <start = 1, end = 2> (entry)
        {AMOUNT}
        {wanted("wanted", "n_entry", "n")}
        half = Div (n, two)
        least = Add (half, one)
        rest = Sub (n, wanted)
        k = Max (rest, least)
        merged_states = Slice (states, zero, k, one, one)
        merged_size = Slice (size, zero, k, one, one)
        merged_mask = Slice (mask, zero, k, one, one)
        target = Cast <to = 7> (merged_mask)
    }}
"""
FREE = {
    "Prune": PRUNE,
    "Merge": MERGE,
    "MergeByEnergy": MERGE.replace("Merge <", "MergeByEnergy <").replace("keep: int>", "keep: int, margin: float>"),
}
"""Functions that keep as many tokens as those of their name, namely the first ones, and look at nothing."""


def strip_reducers(path: Path) -> bytes | None:
    """The graph of an exported file with the same lengths everywhere, but reducers that cost nothing: nothing is
    scored, matched, gathered or mixed. Its answers are wrong and its weights lie beside `path`. The difference in time
    is the reducers' own. None for a dense model, and for one under the reference semantics."""
    model = onnx.load(str(path), load_external_data=False)
    ours = [function for function in model.functions if function.domain == DOMAIN]
    if not ours or any(function.name not in FREE for function in ours):
        return None
    for function in ours:
        opsets = list(function.opset_import)
        function.CopyFrom(onnx.parser.parse_function(FREE[function.name]))
        del function.opset_import[:]
        function.opset_import.extend(opsets)
    serialized: bytes = model.SerializeToString()
    return serialized
