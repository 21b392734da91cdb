"""pumer-convert verify."""

from pathlib import Path

import click

from pumer_convert.cli.output import emit, equal, graphs_in, type_table
from pumer_convert.cli.paths import PATH
from pumer_convert.export.folder import verify_export
from pumer_convert.export.tensorrt import check_onnx
from pumer_convert.verification.verify import Case


@click.command("verify")
@click.argument("checkpoint", type=PATH)
@click.option("--onnx", "onnx_file", type=PATH, help="The ONNX file (default: all of the folder, such as model.onnx).")
@click.option("--batch", "batches", type=int, multiple=True, help="Batch sizes to try; repeatable.")
@click.option("--text", "texts", type=int, multiple=True, help="Text lengths to try; repeatable.")
@click.option("--trt", is_flag=True, help="Ask TensorRT's parser too: every node that it would refuse is named.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    checkpoint: Path,
    onnx_file: Path | None,
    batches: tuple[int, ...],
    texts: tuple[int, ...],
    trt: bool,
    as_json: bool,
) -> None:
    """Compare an exported ONNX model of CHECKPOINT with eager once more, decisions first."""
    cases = tuple(Case(b, t) for b in batches or (1, 2) for t in texts or (4, 17)) if batches or texts else None
    report = verify_export(checkpoint, onnx_file, cases)
    graphs = graphs_in(report)
    if trt:
        for graph in graphs:
            graph["tensorrt"] = check_onnx(graph["onnx"])

    def human() -> str:
        lines = []
        for graph in graphs:
            named = f"{graph['onnx']}: " if len(graphs) > 1 else ""
            lines.append(f"{named}equal: {equal(graph)}")
            lines += [table] if (table := type_table(graph)) else []
            lines += [f"{graph['tensorrt']['flavour']} takes every node"] if trt else []
        return "\n".join(lines)

    emit(report, as_json, human)
