"""The share of an ONNX model's time that goes to its reducers, by ONNX Runtime's profiler on the CPU."""

import json
import tempfile
from pathlib import Path
from typing import Any

import onnx
import onnx.inliner
from numpy.typing import NDArray

DOMAIN = "pumer"
MARK = "pumer~"
PASSES = 5


def reducers_share(path: Path, inputs: dict[str, NDArray[Any]]) -> float:
    """Time of the nodes that serve only the reducers / time of all nodes, over some passes; 0 for a dense model.

    The reducers' are the functions of the domain `pumer`, and every node that works only for their decisions: the
    attention of the text rows, means of keys, casts. Splitting and joining the two modalities is the model's.
    """
    import onnxruntime

    model = onnx.load(str(path), load_external_data=False)
    if not mark(model):
        return 0.0
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_profiling = True
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(path.parent.absolute())
    )
    with tempfile.TemporaryDirectory() as scratch:
        options.profile_file_prefix = str(Path(scratch) / "profile")
        # This rewriting gives its nodes names that say nothing of where they come from.
        session = onnxruntime.InferenceSession(
            model.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["MatmulTransposeFusion"],
        )
        for _ in range(PASSES + 1):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    spent = [(event["name"], event["dur"]) for event in events if event.get("cat") == "Node"]
    spent = spent[len(spent) // (PASSES + 1) :]  # the first pass warms up
    return float(sum(time for name, time in spent if MARK in name) / sum(time for _, time in spent))


def mark(model: onnx.ModelProto) -> int:
    """Put the reducers' bodies in the place of their calls and mark the names of their nodes, and of those that only
    help them decide; gives how many these are."""
    serving = _serving(model.graph)
    others = [node for i, node in enumerate(model.graph.node) if i not in serving]
    for i, node in enumerate(others):
        node.name = f"other~{i}"
    functions = [(function.domain, function.name) for function in model.functions if function.domain == DOMAIN]
    model.CopyFrom(onnx.inliner.inline_selected_functions(model, functions))
    ours = [node for node in model.graph.node if not node.name.startswith("other~")]
    for i, node in enumerate(ours):
        node.name = f"{MARK}{i}"
    return len(ours)


def _serving(graph: onnx.GraphProto) -> set[int]:
    """The places of the calls of the domain `pumer`, and of all nodes that only help them decide."""
    users: dict[str, list[int | None]] = {value.name: [None] for value in graph.output}
    for i, node in enumerate(graph.node):
        for place, name in enumerate(node.input):
            reduced = node.domain == DOMAIN and place == 0  # the states, which the model makes for itself
            users.setdefault(name, []).append(None if reduced else i)
    found: set[int] = set()
    for i in reversed(range(len(graph.node))):  # nodes stand before their users
        node = graph.node[i]
        if node.domain == DOMAIN or all(user in found for name in node.output for user in users.get(name, [])):
            found.add(i)
    return found
