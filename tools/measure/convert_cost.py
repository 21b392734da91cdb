"""What converting costs: `apply` against a copy of the files, `export` against the bare torch.onnx.export.

    python tools/measure/convert_cost.py cost.json --work /tmp/cost --model meter

A checkpoint of the published size with random weights, one file of safetensors; each job is a process of its own, whose
peak of resident memory the system tells. The copy is read and written by `cp`, with the SHA-256 of every file beside
it, as `apply` notes them too. The bare export makes the same graph from the same folder and writes it, no more.
"""

import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import torch
from gpu_suite import RECIPES, machine, write_dense

from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.build import build
from pumer_convert.convert.load import signature_of
from pumer_convert.export.onnx import INLINE_LIMIT, trace_to_onnx

PROGRAM = Path(sys.executable).with_name("pumer-convert")

OBSERVER = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(json.dumps([code, time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""
"""Runs a program from a process of its own: the peak of a child is at least what its parent had when it was born."""


def run(*words: str | Path) -> dict[str, float]:
    """Seconds and peak bytes of a program. Raises RuntimeError when it fails."""
    told = subprocess.run([sys.executable, "-S", "-c", OBSERVER, *words], stdout=subprocess.PIPE, check=True).stdout
    code, seconds, kilobytes = json.loads(told)
    if code:
        raise RuntimeError(f"{' '.join(map(str, words))}: exit {code}")
    return {"seconds": seconds, "bytes": kilobytes * 1024}


def bare(checkpoint: Path, out: Path) -> None:
    """torch.onnx.export as its manual has it: trace, optimise, write."""
    opened = open_checkpoint(checkpoint)
    program = trace_to_onnx(build(opened), opened, signature_of(opened), 20)
    program.optimize()
    program.save(str(out), external_data=sum(f.stat().st_size for f in checkpoint.glob("*.safetensors")) > INLINE_LIMIT)


def typical(runs: list[dict[str, float]]) -> dict[str, float]:
    """Medians."""
    return {key: statistics.median(one[key] for one in runs) for key in runs[0]}


def measure(work: Path, family: str, recipe: Path, repeats: int, *, tiny: bool) -> dict[str, Any]:
    """Everything, in turns, `repeats` times."""
    dense, made, copy = work / "dense", work / "made", work / "copy"
    for folder, base in ((dense, not tiny), (work / "tiny", False)):
        if not folder.exists():
            write_dense(folder, family, base=base)
    shard = max(file.stat().st_size for file in dense.glob("*.safetensors"))
    script = "import sys; sys.path.insert(0, sys.argv[1]); from convert_cost import *; bare(*map(Path, sys.argv[2:]))"
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(repeats):
        for old in (made, copy):
            shutil.rmtree(old, ignore_errors=True)
        jobs: dict[str, list[str | Path]] = {
            "help": [PROGRAM, "--help"],
            "copy": ["/bin/sh", "-c", f"cp -r '{dense}' '{copy}' && sha256sum '{copy}'/*"],
            "apply, tiny": [
                PROGRAM,
                "apply",
                "--recipe",
                recipe,
                "--overwrite",
                work / "tiny",
                "-o",
                work / "tiny-made",
            ],
            "apply": [PROGRAM, "apply", "--recipe", recipe, dense, "-o", made],
            "bare export": [sys.executable, "-c", script, Path(__file__).parent, made, copy / "bare.onnx"],
            "export": [PROGRAM, "export", "--dtype", "float32", made, "-o", copy],
        }
        for name, words in jobs.items():
            click.echo(name, err=True)
            found.setdefault(name, []).append(run(*words))
    return {"largest_shard": shard, "jobs": {name: typical(runs) for name, runs in found.items()}}


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--work", required=True, type=click.Path(path_type=Path), help="Folder for the models; kept.")
@click.option("--model", type=click.Choice(["vilt", "meter"]), default="meter", show_default=True)
@click.option("--tiny", is_flag=True, help="A tiny model instead of one of the published size.")
@click.option("--repeats", default=3, show_default=True)
def main(out: Path, work: Path, model: str, tiny: bool, repeats: int) -> None:
    """Measure, write OUT and print the ratios."""
    work.mkdir(parents=True, exist_ok=True)
    found = measure(work, model, RECIPES / f"{model}.yaml", repeats, tiny=tiny)
    jobs = found["jobs"]
    found |= {
        "command": " ".join(["python tools/measure/convert_cost.py", *sys.argv[1:]]),
        "machine": {**machine(), "threads": torch.get_num_threads()},
        "model": model,
        "ratios": {
            "apply, time of a copy with hashes": jobs["apply"]["seconds"] / jobs["copy"]["seconds"],
            "the same less apply's time on a tiny model": (jobs["apply"]["seconds"] - jobs["apply, tiny"]["seconds"])
            / jobs["copy"]["seconds"],
            "apply, peak of the largest shard": jobs["apply"]["bytes"] / found["largest_shard"],
            "export, time of the bare one": jobs["export"]["seconds"] / jobs["bare export"]["seconds"],
            "export, peak of the bare one": jobs["export"]["bytes"] / jobs["bare export"]["bytes"],
        },
    }
    out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    click.echo("\n".join(f"{name:<44}{value:.2f}" for name, value in found["ratios"].items()))
    click.echo(f"{'--help, seconds':<44}{jobs['help']['seconds']:.2f}")


if __name__ == "__main__":
    main()
