"""What an ONNX Runtime session takes to make, and how many nodes it is made of.

    python tools/measure/session_time.py vilt/model.onnx reduced-vilt-fast/model.onnx

CPU time of this process, the least of some tries, on one core: as this package opens a file, and by ONNX Runtime's
defaults, which plan the reuse of buffers.
"""

import argparse
import resource
from pathlib import Path

import onnx

from pumer_convert.runtime.onnx import OnnxRuntime


def cpu() -> float:
    """Seconds that this process has worked."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def seconds(file: Path, reuse: bool, tries: int) -> float:
    """The CPU time of making a session, the least of `tries`."""
    found = []
    for _ in range(tries):
        before = cpu()
        OnnxRuntime(file, "cpu", reuse=reuse)
        found.append(cpu() - before)
    return min(found)


def nodes(file: Path) -> tuple[int, dict[str, int]]:
    """How many nodes a graph has when its functions are written out, and how many each of these has."""
    model = onnx.load(str(file), load_external_data=False)
    functions = {function.name: len(function.node) for function in model.functions}
    return sum(functions.get(node.op_type, 1) for node in model.graph.node), functions


def main() -> None:
    """Print a line for each file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--tries", type=int, default=5)
    arguments = parser.parse_args()
    first: tuple[float, float] | None = None
    for file in arguments.files:
        count, functions = nodes(file)
        ours, default = (seconds(file, reuse, arguments.tries) for reuse in (False, True))
        first = first or (ours, default)
        each = ", ".join(f"{name} {size}" for name, size in functions.items())
        print(
            f"{file}: {count} nodes{f' ({each})' if each else ''}; x{ours / first[0]:.2f} of the first file's session, "
            f"x{default / first[1]:.2f} by ONNX Runtime's defaults (x{default / ours:.2f} of ours)"
        )


if __name__ == "__main__":
    main()
