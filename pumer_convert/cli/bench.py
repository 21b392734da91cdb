"""pumer-convert bench."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pumer_convert.cli.help import Sectioned, option, section
from pumer_convert.cli.output import emit, progress, ratio
from pumer_convert.cli.paths import PATH
from pumer_convert.errors import InputError
from pumer_convert.system.output import check_files, output_files

if TYPE_CHECKING:
    from pumer_convert.benchmark.bench import Bench


@click.command("bench", cls=Sectioned)
@click.argument("checkpoint", type=PATH)
@section(
    "What is timed",
    option("--against", type=PATH, help="The dense checkpoint (default: the one that it was made from)."),
    option(
        "--runtime",
        "runtimes",
        multiple=True,
        type=click.Choice(["eager", "compiled", "onnx", "engine"]),
        help="onnx and engine take the exported files of both folders; repeatable (default: eager).",
    ),
    option(
        "--dtype",
        type=click.Choice(["float32", "float16", "bfloat16"]),
        default="float32",
        show_default=True,
        help="Number type; for onnx and engine that of the exported files.",
    ),
    option("--device", default="auto", show_default=True, help="auto, cpu or cuda[:i]."),
)
@section(
    "The inputs",
    option(
        "--batch", "batches", type=click.IntRange(1), multiple=True, help="Batch sizes; repeatable (default: 1 and 4)."
    ),
    option("--text", "texts", type=click.IntRange(2), multiple=True, help="Text tokens; repeatable (default: 32)."),
    option(
        "--aspect",
        callback=ratio,
        default="1:1",
        show_default=True,
        metavar="W:H",
        help="Aspect ratio of the pictures, where they keep their shape.",
    ),
)
@section(
    "The measurement",
    option(
        "--repeats", type=click.IntRange(3), default=11, show_default=True, help="How many pairs of passes are timed."
    ),
    option("--memory", is_flag=True, help="Measure what a pass takes beyond the weights, too."),
)
@section(
    "Output",
    option("--plot", type=PATH, metavar="PNG", help="Draw the ratios as well."),
    option("--overwrite", is_flag=True, help="Replace an earlier picture of --plot."),
    option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
)
def command(
    checkpoint: Path,
    against: Path | None,
    runtimes: tuple[str, ...],
    batches: tuple[int, ...],
    texts: tuple[int, ...],
    aspect: tuple[int, int],
    repeats: int,
    dtype: str,
    device: str,
    memory: bool,
    plot: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Time the reduced CHECKPOINT against the dense one, in turns, and compare with what the saved MACs allow."""
    from pumer_convert.benchmark.bench import bench

    if plot is not None:
        if not plot.absolute().parent.is_dir():
            raise InputError(f"{plot.parent}: no such folder to draw to; make it first.")
        if plot.is_dir():
            raise InputError(f"{plot}: a folder; name the picture to draw.")
        check_files(plot, overwrite)
    report = bench(
        checkpoint,
        against,
        runtimes=runtimes or ("eager",),
        batches=batches or (1, 4),
        texts=texts or (32,),
        aspect=aspect,
        repeats=repeats,
        dtype=dtype,
        device=device,
        memory=memory,
        progress=progress,
    )
    # Told before it is drawn: a disk that is full takes the picture alone.
    emit(report.to_json(), as_json, lambda: table(report))
    if plot is not None:
        from pumer_convert.benchmark.plot import draw_bench

        with output_files(plot, overwrite) as target:
            draw_bench(report, target)


def table(report: "Bench") -> str:
    """One line for every shape; columns for what was measured."""
    lines = ["runtime   batch  text   dense/s  reduced/s    faster  (quartiles)    MACs  efficiency"]
    shares, memory = (any(getattr(cell, name) is not None for cell in report.cells) for name in ("reducers", "memory"))
    lines[0] += ("  reducers" if shares else "") + ("  less memory" if memory else "")
    for cell in report.cells:
        rates = f"{cell.dense.rate:>10.1f}{cell.reduced.rate:>11.1f}{f'x{cell.ratio:.2f}':>10}"
        rest = f"({cell.low:.2f}..{cell.high:.2f}){f'x{cell.macs:.2f}':>10}{cell.realised:>12.2f}"
        if shares:
            rest += " " * 10 if cell.reducers is None else f"{cell.reducers:>10.1%}"
        if memory:
            rest += " " * 13 if cell.memory is None else f"{f'{cell.memory[0] / max(cell.memory[1], 1):.2f}x':>13}"
        lines.append(f"{cell.runtime:<10}{cell.batch:>5}{cell.text:>6}{rates}  {rest}")
    return "\n".join(lines)
