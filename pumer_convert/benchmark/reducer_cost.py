"""What a reduced ONNX model would be if its reducers cost nothing: the reducers' share of its time, in any provider."""

from pathlib import Path

import onnx
import onnx.parser

from pumer_convert.reducers import KINDS
from pumer_convert.reducers.base import DOMAIN


def strip_reducers(path: Path) -> bytes | None:
    """The graph of an exported file with the same lengths everywhere, but reducers that cost nothing: nothing is
    scored, matched, gathered or mixed. Its answers are wrong and its weights lie beside `path`. The difference in time
    is the reducers' own. None for a dense model, for one under the reference semantics, and for one whose reducers
    another version wrote and called in another way."""
    model = onnx.load(str(path), load_external_data=False)
    ours = [function for function in model.functions if function.domain == DOMAIN]
    reducers = {reducer.function: reducer for by in KINDS.values() for kind in by.values() if (reducer := kind.load())}
    calls = {name: (list(reducer.inputs), list(reducer.outputs)) for name, reducer in reducers.items()}
    if not ours or any((list(f.input), list(f.output)) != calls.get(f.name) for f in ours):
        return None
    for function in ours:
        opset = next(entry.version for entry in function.opset_import if entry.domain == "")
        function.CopyFrom(onnx.parser.parse_function(reducers[function.name].free_body(opset)))
    serialized: bytes = model.SerializeToString()
    return serialized
