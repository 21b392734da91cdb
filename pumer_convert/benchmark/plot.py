"""The picture of a bench."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pumer_convert.benchmark.bench import Bench


def draw_bench(bench: "Bench", file: Path) -> None:
    """A PNG: how much faster the reduced model is over the batch, a line for each runtime and text length with its
    quartiles, beside what the saved MACs allow and the line of break-even. Raises OSError when it cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for runtime, text in dict.fromkeys((cell.runtime, cell.text) for cell in bench.cells):
        cells = sorted((c for c in bench.cells if (c.runtime, c.text) == (runtime, text)), key=lambda c: c.batch)
        batches = [cell.batch for cell in cells]
        spread = [[cell.ratio - cell.low for cell in cells], [cell.high - cell.ratio for cell in cells]]
        line = axes.errorbar(
            batches, [c.ratio for c in cells], spread, marker="o", capsize=3, label=f"{runtime}, {text} text tokens"
        )
        axes.plot(batches, [c.macs for c in cells], linestyle=":", color=line[0].get_color())
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("batch")
    axes.set_ylabel("dense time / reduced time (dotted: MACs)")
    # Names are no formulas, and of a disk of another system perhaps no UTF-8.
    names = f"{Path(bench.reduced).name} against {Path(bench.dense).name}".encode("utf-8", "replace").decode("utf-8")
    axes.set_title(f"{names}, {bench.dtype}, {bench.device}", parse_math=False)
    axes.legend()
    FigureCanvasAgg(figure).print_png(str(file))  # type: ignore[no-untyped-call]
