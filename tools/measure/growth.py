"""How time and memory grow with image size, text length, batch and width: dense against reduced, with exponents.

    python tools/measure/growth.py growth.json --plot growth.png --model meter

Models of the published depth with random weights, in eager PyTorch; dense and reduced take turns. The exponent e of
time ~ size^e is the slope of a straight line through the logarithms; the size of an image is its number of patches, of
the width the channels. Memory is what a pass takes beyond the weights: on the CPU by the process's resident memory, on
a GPU by torch's allocator.
"""

import json
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from gpu_suite import RECIPES, machine
from random_checkpoint import config as base_config
from torch import Tensor, nn

from pumer_convert.benchmark.memory import taken
from pumer_convert.convert.plan import edits_of, pumer_section
from pumer_convert.device import open_device
from pumer_convert.models.body import insert
from pumer_convert.models.family import family_of
from pumer_convert.recipe.schema import load_recipe
from pumer_convert.system.heap import give_back_at_once

AXES: dict[str, tuple[int, ...]] = {
    "image": (224, 384, 512, 768),
    "text": (8, 16, 24, 40),
    "batch": (1, 2, 4, 8),
    "width": (384, 576, 768, 1152),
}
USUAL = {"image": 384, "text": 32, "batch": 1, "width": 768}
HEAD = 64
"""Channels of a head."""


def models(family: str, recipe: Path, shape: Mapping[str, int], device: torch.device) -> dict[str, nn.Module]:
    """Dense and reduced, of one width and image size, sharing their weights."""
    settings = base_config(family, "vqa", base=True)
    width = {
        "hidden_size": shape["width"],
        "intermediate_size": 4 * shape["width"],
        "num_attention_heads": shape["width"] // HEAD,
    }
    settings |= {**width, "image_size": shape["image"], "id2label": {str(i): str(i) for i in range(8)}}
    for tower in ("vision", "text"):
        if tower in settings:
            settings[tower] = {**settings[tower], **width}
    parts = family_of(family)
    parsed = load_recipe(recipe)
    torch.manual_seed(0)
    dense = parts.build(settings).eval().requires_grad_(False)
    for parameter in dense.parameters():
        parameter.normal_(0, 0.02)
    with torch.device("meta"):
        reduced = parts.build(settings)
    reduced.load_state_dict(dense.state_dict(), assign=True)
    reduced = insert(reduced, pumer_section(parsed, edits_of(parsed, parts.spec(settings)))).eval()
    return {"dense": dense.to(device), "reduced": reduced.to(device)}


def inputs(shape: Mapping[str, int], device: torch.device) -> dict[str, Tensor]:
    """Random pixels and words; every text fills its length."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 90, (shape["batch"], shape["text"]), generator=generator)
    pixels = torch.randn(shape["batch"], 3, shape["image"], shape["image"], generator=generator)
    made = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}
    return {name: value.to(device) for name, value in made.items()}


@torch.inference_mode()
def measure(pair: Mapping[str, nn.Module], given: Mapping[str, Tensor], repeats: int) -> dict[str, Any]:
    """Median seconds and peak bytes of both; the ratio is the median over pairs."""
    device = given["pixel_values"].device
    seconds: dict[str, list[float]] = {name: [] for name in pair}
    for turn in range(repeats + 1):
        for name in pair if turn % 2 else reversed(pair):
            start = time.perf_counter()
            pair[name](**given).logits.cpu()  # waits for the device
            seconds[name].append(time.perf_counter() - start)
    dense, reduced = (np.array(seconds[name][1:]) for name in ("dense", "reduced"))
    bytes_ = {name: taken(lambda m=model: m(**given), device) for name, model in pair.items()}
    return {
        "seconds": {"dense": statistics.median(dense), "reduced": statistics.median(reduced)},
        "faster": float(np.median(dense / reduced)),
        "bytes": bytes_,
    }


def exponent(sizes: list[float], values: list[float]) -> float:
    """The slope of the line through (log size, log value)."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def size_of(axis: str, value: int, patch: int) -> float:
    """By what something grows: patches of an image, else the number itself."""
    return float((value // patch) ** 2 if axis == "image" else value)


def grow(
    family: str, recipe: Path, axis: str, values: tuple[int, ...], repeats: int, device: torch.device
) -> dict[str, Any]:
    """One axis: its rows and the exponents."""
    rows = []
    for value in values:
        print(f"{family}, {axis} {value}", file=sys.stderr, flush=True)
        shape = {**USUAL, axis: value}
        rows.append({axis: value, **measure(models(family, recipe, shape, device), inputs(shape, device), repeats)})
    patch = base_config(family, "vqa", base=True)["patch_size"]
    sizes = [size_of(axis, value, patch) for value in values]
    exponents = {
        what: {name: exponent(sizes, [row[what][name] for row in rows]) for name in ("dense", "reduced")}
        for what in ("seconds", "bytes")
    }
    return {"axis": axis, "rows": rows, "exponents": exponents}


def table(report: Mapping[str, Any]) -> str:
    """The report as Markdown: ratios and exponents."""
    lines = ["| | from .. to | faster | less memory | time grows by, dense / reduced | memory grows by |"]
    lines.append("|---|---|---|---|---|---|")
    for found in report["axes"]:
        rows, axis = found["rows"], found["axis"]
        less = [row["bytes"]["dense"] / max(row["bytes"]["reduced"], 1) for row in rows]
        powers = [
            [f"{found['exponents'][what][name]:.2f}" for name in ("dense", "reduced")] for what in ("seconds", "bytes")
        ]
        lines.append(
            f"| {axis} | {rows[0][axis]} .. {rows[-1][axis]} | x{rows[0]['faster']:.2f} .. x{rows[-1]['faster']:.2f} "
            f"| {less[0]:.2f}x .. {less[-1]:.2f}x | {' / '.join(powers[0])} | {' / '.join(powers[1])} |"
        )
    return "\n".join(lines)


def draw(report: Mapping[str, Any], file: Path) -> None:
    """Time and memory over each axis, relative to the dense model at the smallest size."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(report["axes"]), 6), layout="constrained")
    grid = figure.subplots(2, len(report["axes"]), squeeze=False)
    for column, found in enumerate(report["axes"]):
        for row, what in enumerate(("seconds", "bytes")):
            axes, values = grid[row][column], [entry[found["axis"]] for entry in found["rows"]]
            first = found["rows"][0][what]["dense"]
            for name in ("dense", "reduced"):
                power = found["exponents"][what][name]
                axes.plot(
                    values, [r[what][name] / first for r in found["rows"]], marker="o", label=f"{name}, {power:.2f}"
                )
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xticks(values, [str(value) for value in values])
            axes.minorticks_off()
            axes.set_xlabel(found["axis"])
            axes.set_ylabel(("time" if what == "seconds" else "memory") + ", of the first dense")
            axes.legend(title="exponent")
    FigureCanvasAgg(figure).print_png(str(file))


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--model", type=click.Choice(["vilt", "meter"]), default="meter", show_default=True)
@click.option("--recipe", type=click.Path(path_type=Path, exists=True), help="Default: the family's -fast recipe.")
@click.option("--axis", "axes", multiple=True, type=click.Choice(list(AXES)), help="Repeatable (default: all).")
@click.option("--values", type=int, multiple=True, help="Other sizes along the one axis; repeatable.")
@click.option("--repeats", default=3, show_default=True, help="Pairs of passes.")
@click.option("--device", default="auto", show_default=True)
@click.option("--plot", type=click.Path(path_type=Path), metavar="PNG")
def main(
    out: Path,
    model: str,
    recipe: Path | None,
    axes: tuple[str, ...],
    values: tuple[int, ...],
    repeats: int,
    device: str,
    plot: Path | None,
) -> None:
    """Measure, write OUT and print the table."""
    if values and len(axes) != 1:
        raise click.UsageError("--values are for one --axis.")
    give_back_at_once()  # so that memory of an earlier size is not used again unseen
    place, recipe = open_device(device), recipe or RECIPES / f"{model}-fast.yaml"
    report: dict[str, Any] = {
        "command": " ".join(["python tools/measure/growth.py", *sys.argv[1:]]),
        "machine": {**machine(), "threads": torch.get_num_threads()},
        "model": model,
        "recipe": recipe.stem,
        "axes": [],
    }
    for axis in axes or tuple(AXES):
        report["axes"].append(grow(model, recipe, axis, values or AXES[axis], repeats, place))
        out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    if plot is not None:
        draw(report, plot)
    print(table(report))


if __name__ == "__main__":
    main()
