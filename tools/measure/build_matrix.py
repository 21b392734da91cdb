"""Every recipe in every type, built with TensorRT-RTX for four generations of GPUs with two profiles; needs no GPU.

python tools/measure/build_matrix.py builds.json         # random models: tiny ones of every recipe, then full size
python tools/measure/build_matrix.py builds.json --only vilt-vqa --no-full
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from random_checkpoint import write

from pumer_convert.convert.apply import apply
from pumer_convert.errors import PumerError
from pumer_convert.export.folder import export_folder
from pumer_convert.export.tensorrt import EngineSettings
from pumer_convert.recipe.schema import Profile, load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
TARGETS = ("8.0", "8.6", "8.9", "12.0")
PROFILES = (Profile((1, 1, 4), (4, 16, 40)), Profile((4, 16, 64), (8, 32, 40)))
"""Fast answers to one question, and many questions at once."""
TYPES = ("float32", "float16", "bfloat16")
FULL = (("vilt", "float16"), ("meter", "float16"))


def one(recipe: Path, types: tuple[str, ...], work: Path, *, base: bool) -> list[dict[str, Any]]:
    """The rows of a recipe, in each of `types`, for a model of the published size or a tiny one."""
    family = load_recipe(recipe).model
    task = recipe.stem.partition("-")[2]
    task = task if task in ("ve", "nlvr2") else "vqa"
    dense = write(work / f"{recipe.stem}.ckpt", family, "original", task, base=base)
    reduced = work / recipe.stem
    apply(dense, recipe, reduced)
    rows = []
    for dtype in types:
        click.echo(f"{recipe.stem} {'full size' if base else 'tiny'} {dtype}", err=True)
        engine = EngineSettings(flavour="tensorrt-rtx", compute_capabilities=TARGETS, profiles=PROFILES)
        start = time.perf_counter()
        report = export_folder(reduced, trt=engine, dtype=dtype, overwrite=True, in_subprocess=True)
        rows.append(
            {
                "recipe": recipe.stem,
                "size": "full" if base else "tiny",
                "dtype": dtype,
                "seconds": round(time.perf_counter() - start, 1),
                "engine_bytes": report["engine"]["bytes"],
                "tensorrt_rtx": report["engine"]["version"],
                "logits_error": report["verification"]["logits_error"],
                "decisions_that_differ": report["verification"]["decisions_that_differ"],
                "decisions": report["verification"]["decisions"],
            }
        )
    return rows


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--only", multiple=True, help="Only these recipes; repeatable.")
@click.option("--full/--no-full", default=True, show_default=True, help="ViLT and METER in their published size, too.")
def main(out: Path, only: tuple[str, ...], full: bool) -> None:
    """Build all and write OUT; the exit code is 1 when one failed."""
    jobs = [(path, TYPES, False) for path in sorted(RECIPES.glob("*.yaml")) if not only or path.stem in only]
    jobs += [(RECIPES / f"{name}.yaml", (dtype,), True) for name, dtype in FULL if full]
    rows: list[dict[str, Any]] = []
    failed = 0
    for recipe, types, base in jobs:
        with tempfile.TemporaryDirectory() as work:
            try:
                rows += one(recipe, types, Path(work), base=base)
            except PumerError as error:
                click.echo(f"{recipe.stem}: {error}", err=True)
                failed += 1
        told = {"targets": TARGETS, "profiles": [[p.batch, p.text] for p in PROFILES], "rows": rows}
        out.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    sys.exit(min(failed, 1))


if __name__ == "__main__":
    main()
