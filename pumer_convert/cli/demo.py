"""pumer-convert demo."""

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import click

from pumer_convert.cli.output import emit, plan_table, progress
from pumer_convert.convert import apply, intend
from pumer_convert.demo import CHECKPOINT, RECIPE
from pumer_convert.export.folder import export_folder

RTX = importlib.util.find_spec("tensorrt_rtx") is not None


@click.command("demo")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Keep the converted folder here.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(out: Path | None, as_json: bool) -> None:
    """Run plan, apply, export to ONNX, verification and, where TensorRT-RTX is installed, an engine.

    On an embedded ViLT of six layers with random weights: it shows the path, not answers.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = out if out is not None else Path(scratch) / "demo-pumer"
        progress("1/2 plan and apply")
        intent = intend(CHECKPOINT, RECIPE, folder)
        apply(CHECKPOINT, RECIPE, folder, progress=progress)
        progress("2/2 export to ONNX and verify" + (", build an engine" if RTX else ""))
        report: dict[str, Any] = export_folder(folder, trt=RTX, flavour="tensorrt-rtx", progress=progress)
    report["plan"] = intent.plan.to_json()

    def human() -> str:
        plan, check, engine = intent.plan, report["verification"], report.get("engine")
        first, last = plan.rows[0], plan.rows[-1]
        made = "none: pip install 'pumer-convert[rtx]' builds one"
        if engine:
            made = f"{engine['bytes'] / 1e6:.2f} MB ({engine['flavour']} {engine['version']})"
        rows = (
            ("image tokens", f"{first.image_in} -> {last.image_out}"),
            ("text tokens", f"{first.text_in} -> {last.text_out}"),
            (
                "GMACs per example",
                f"{plan.dense_macs / 1e9:.4f} -> {(plan.macs + plan.reducer_macs) / 1e9:.4f}",
            ),
            ("ratio", f"x{plan.ratio:.2f}"),
            (
                "ONNX against eager",
                f"{check['logits_error']:.1e} ({report['dtype']}, {check['cases']} cases)",
            ),
            ("engine", made),
        )
        table = "\n".join(f"{name:<20}{value}" for name, value in rows)
        return f"{plan_table(plan)}\n\n{table}"

    emit(report, as_json, human)
