"""The record of speed: dense against reduced, at the published size with random weights; the speeds of README.md here.

    python tools/measure/speed.py speed.json --work /tmp/speed   # on this machine's GPU, or its CPU if it has none
    python tools/measure/speed.py speed.json --table             # the table of README.md here, measuring nothing

The dense models of an earlier run in the work folder are used again.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from gpu_suite import RECIPES, machine, write_dense

import pumer_convert
from pumer_convert.benchmark.bench import RUNTIMES, bench
from pumer_convert.export.folder import export_folder
from pumer_convert.export.tensorrt import EngineSettings
from pumer_convert.recipe.schema import Profile

SETTINGS = {"vilt": ("vilt", "vilt-fast"), "meter": ("meter", "meter-fast", "meter-faster")}
ORDER = [recipe for recipes in SETTINGS.values() for recipe in recipes]


def say(line: str) -> None:
    """Progress, on standard error."""
    print(line, file=sys.stderr, flush=True)


def made(args: argparse.Namespace, folder: Path, family: str, recipe: str | None) -> Path:
    """The checkpoint in `folder`, dense or reduced by a recipe, and what the runtimes need of it."""
    if recipe is None and not folder.exists():
        write_dense(folder, family, base=not args.tiny)
    if recipe is not None:
        pumer_convert.apply(args.work / family, RECIPES / f"{recipe}.yaml", folder, overwrite=True)
    wants = {name for name in args.runtimes if RUNTIMES[name]}
    if wants and (recipe is not None or not (folder / "model.onnx").exists()):
        say(f"exporting {folder.name}")
        profile = Profile((1, max(args.batches), max(args.batches)), (2, max(args.texts), max(args.texts)))
        trt = EngineSettings(profiles=(profile,)) if "engine" in wants else None
        export_folder(folder, trt=trt, dtype=args.dtype, overwrite=True)
    return folder


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [
        "| recipe | runtime | batch | faster (quartiles) | MACs | efficiency | reducers | less memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        for cell in row["cells"]:
            reducers = "" if cell["reducers"] is None else f"{cell['reducers']:.1%}"
            memory = "" if cell["memory"] is None else f"{cell['memory'][0] / cell['memory'][1]:.2f}x"
            lines.append(
                f"| {row['recipe']} | {cell['runtime']} | {cell['batch']} "
                f"| x{cell['ratio']:.2f} ({cell['low']:.2f} .. {cell['high']:.2f}) | x{cell['macs']:.2f} "
                f"| {cell['realised']:.2f} | {reducers} | {memory} |"
            )
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, write and print."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--work", type=Path, help="folder for the models")
    parser.add_argument("--table", action="store_true", help="print the table of OUT and stop")
    parser.add_argument("--only", nargs="+", choices=ORDER, help="only these; the file's others stay")
    parser.add_argument(
        "--runtimes", nargs="+", choices=RUNTIMES, default=["eager", "compiled", "onnx"] if gpu else ["onnx"]
    )
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float16" if gpu else "float32")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 64] if gpu else [4])
    parser.add_argument("--texts", nargs="+", type=int, default=[32])
    parser.add_argument("--repeats", type=int, default=21 if gpu else 15, help="pairs of passes")
    parser.add_argument("--tiny", action="store_true", help="tiny models instead of those of the published size")
    args = parser.parse_args(words)
    if args.table:
        print(table(json.loads(args.out.read_text("utf-8"))))
        return
    if args.work is None:
        parser.error("say where the models may lie: --work FOLDER")
    args.work.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {
        "command": " ".join(["python tools/measure/speed.py", *(sys.argv[1:] if words is None else words)]),
        "machine": {**machine(), "threads": torch.get_num_threads(), "cores": os.cpu_count()},
        "rows": [],
    }
    if args.only and args.out.exists():
        earlier = json.loads(args.out.read_text("utf-8"))["rows"]
        report["rows"] = [row for row in earlier if row["recipe"] not in args.only]
    for family, recipes in SETTINGS.items():
        for recipe in recipes:
            if args.only and recipe not in args.only:
                continue
            dense = made(args, args.work / family, family, None)
            reduced = made(args, args.work / f"reduced-{recipe}", family, recipe)
            found = bench(
                reduced,
                dense,
                runtimes=tuple(args.runtimes),
                batches=tuple(args.batches),
                texts=tuple(args.texts),
                repeats=args.repeats,
                dtype=args.dtype,
                memory=True,
                progress=say,
            ).to_json()
            report["rows"].append({"recipe": recipe, **found, "dense": dense.name, "reduced": reduced.name})
            report["rows"].sort(key=lambda row: ORDER.index(row["recipe"]))
            args.out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    print(table(report))


if __name__ == "__main__":
    main()
