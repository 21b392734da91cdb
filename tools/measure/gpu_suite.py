"""Build, run and compare everything on this machine's GPU, and write one JSON file.

    python tools/measure/gpu_suite.py gpu.json

ViLT-base and METER-base with random weights, dense and reduced by the recipes to start from: eager, compiled, ONNX
Runtime, and an engine of every flavour that is installed, each against eager in float32, and dense against reduced in
time. What is missing is skipped and told; without a GPU all but the engines runs on the CPU (--tiny makes it quick).
Exit codes: 0 everything that ran is right, 3 something is not.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from random_checkpoint import write

import pumer_convert
from pumer_convert.artifact.describe import describe
from pumer_convert.artifact.tensorrt_flavours import MODULES, has_gpu
from pumer_convert.benchmark.bench import bench
from pumer_convert.checkpoint.read import open_checkpoint
from pumer_convert.convert.load import signature_of
from pumer_convert.errors import MissingDependencyError, PumerError
from pumer_convert.export.onnx import export_onnx
from pumer_convert.export.tensorrt import EngineSettings, build_engine
from pumer_convert.recipe.schema import Profile
from pumer_convert.runtime import open_runtime
from pumer_convert.verification.verify import TOLERANCE, Case, sample

MODELS = ("vilt", "meter")
RECIPES = Path(__file__).resolve().parents[2] / "recipes"
RUNTIMES = ("eager", "compiled", "onnx", "engine")
PACKAGES = ("torch", "onnxruntime-gpu", "onnx", "tensorrt", "tensorrt-rtx", "transformers")
FLIPS = 3  # a reduced model in half precision decides near ties otherwise; as far off as eager's own may be, times this
Made = TypeVar("Made")


def write_dense(out: Path, family: str, *, base: bool) -> Path:
    """A dense checkpoint with random weights in the folder `out`, with fused attention; gives `out`.

    Of the original form: the published PuMer folders, dense ones too, have an attention of their own that is not fused,
    and whoever measures against it counts that as speed of the reduction.
    """
    with tempfile.TemporaryDirectory() as scratch:
        recipe = Path(scratch) / "dense.yaml"
        recipe.write_text(f"recipe: 1\nmodel: {family}\nreduce: []\n", "utf-8")
        pumer_convert.apply(write(Path(scratch) / "dense.ckpt", family, "original", base=base), recipe, out)
    return out


class Suite:
    """What is asked for, and what came of it."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.folder = Path()
        self.report: dict[str, Any] = {"machine": machine(), "dtype": args.dtype, "tiny": args.tiny}
        self.report |= {"builds": [], "checks": [], "speed": [], "skipped": [], "failed": []}
        shapes = [(batch, text) for batch in args.batches for text in args.texts]
        self.cases = [Case(batch, text) for batch, text in shapes]
        # Small batches and large ones each get a profile made for them.
        longest = max(args.texts)
        least, most = min(args.batches), max(args.batches)
        sizes = [(1, least, least)] + [(least, most, most)] * (most > least)
        self.profiles = tuple(Profile(batch=size, text=(2, longest, longest)) for size in sizes)

    def attempt(self, what: str, work: Callable[[], Made]) -> Made | None:
        """Do it; want of a package or a device is noted as skipped, any other end as failed."""
        print(f"{what} ...", file=sys.stderr, flush=True)
        try:
            return work()
        except MissingDependencyError as error:
            self.note("skipped", what, str(error))
        except PumerError as error:
            self.note("failed", what, str(error))
        except Exception as error:  # one broken runtime must not hide the others
            self.note("failed", what, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
        return None

    def note(self, list_: str, what: str, why: str) -> None:
        """Add to the lists of what was skipped or failed."""
        self.report[list_].append({"what": what, "why": why.replace(f"{self.folder}/", "")})

    def model(self, name: str, folder: Path) -> None:
        """Everything about one model; its checkpoints and files go to `folder`."""
        self.folder = folder
        paths = {"dense": write_dense(folder / "dense", name, base=not self.args.tiny)}
        paths["reduced"] = folder / "reduced"
        pumer_convert.apply(paths["dense"], RECIPES / f"{name}.yaml", paths["reduced"])
        expected = {kind: self.logits(path, path, "float32") for kind, path in paths.items()}
        # How far off eager itself is in this type, before anybody else is asked.
        allowed = {
            kind: max(TOLERANCE[self.args.dtype], FLIPS * distance(self.logits(path, path, self.args.dtype), wanted))
            for (kind, path), wanted in zip(paths.items(), expected.values(), strict=True)
        }
        for kind, path in paths.items():
            self.attempt(f"{name} {kind}: ONNX", lambda p=path: export_onnx(p, dtype=self.args.dtype))
        for runtime in self.args.runtimes:
            for flavour in MODULES if runtime == "engine" else ("",):
                label = f"{name} {flavour or runtime}"
                if flavour and None in [self.build(f"{label} {kind}", path, flavour) for kind, path in paths.items()]:
                    continue
                for kind, path in paths.items():
                    self.check(f"{label} {kind}", path, runtime, expected[kind], allowed[kind])
                self.race(label, paths, runtime)

    def logits(self, checkpoint: Path, model: Path, dtype: str, **options: Any) -> list[Any]:
        """Of every case, as numpy arrays; `model` is the checkpoint or what was exported of it."""
        opened = open_checkpoint(checkpoint)
        options |= {} if model.suffix in (".onnx", ".engine") else {"dtype": dtype}
        runtime = open_runtime(model, **options)
        return [runtime(**sample(signature_of(opened), case)) for case in self.cases]

    def build(self, what: str, path: Path, flavour: str) -> dict[str, Any] | None:
        """An engine of a flavour in a checkpoint's folder; None when it cannot be built here."""

        def work() -> dict[str, Any]:
            start = time.perf_counter()
            sidecar = describe(open_checkpoint(path))
            made = build_engine(
                path / "model.onnx", None, EngineSettings(flavour, self.profiles), sidecar=sidecar, overwrite=True
            )
            found = {"what": what, "seconds": time.perf_counter() - start, "bytes": made["engine"]["bytes"]}
            self.report["builds"].append(found | {"version": made["tensorrt_version"]})
            return found

        return self.attempt(f"{what}: build", work)

    def check(self, what: str, path: Path, runtime: str, expected: list[Any], allowed: float) -> None:
        """Logits against eager in float32, once more through a CUDA graph where there is an engine."""
        model = {"onnx": path / "model.onnx", "engine": path / "model.engine"}.get(runtime, path)
        for options in ({"cuda_graph": False}, {"cuda_graph": True}) if runtime == "engine" else ({},):
            options |= {"compiled": True} if runtime == "compiled" else {}
            name = what + " in a CUDA graph" * options.get("cuda_graph", False)
            found = self.attempt(name, lambda o=options: self.logits(path, model, self.args.dtype, **o))
            if found is None:
                continue
            error = distance(found, expected)
            same = np.concatenate([a.argmax(-1) == b.argmax(-1) for a, b in zip(found, expected, strict=True)])
            check = {"what": name, "error": error, "allowed": allowed, "same_answers": float(same.mean())}
            self.report["checks"].append(check)
            if not np.isfinite(error) or error > allowed:
                self.note("failed", name, f"the error {error:.2e} is above {allowed:.2e}")

    def race(self, what: str, paths: dict[str, Path], runtime: str) -> None:
        """Dense and reduced in turns."""
        args = self.args
        shapes = {"batches": tuple(args.batches), "texts": tuple(args.texts), "repeats": args.repeats}
        found = self.attempt(
            f"{what}: speed",
            lambda: bench(paths["reduced"], paths["dense"], runtimes=(runtime,), dtype=args.dtype, **shapes),
        )
        if found is not None:
            self.report["speed"] += [{"what": what, **asdict(cell)} for cell in found.cells]


def distance(found: list[Any], expected: list[Any]) -> float:
    """The largest difference, as a share of the largest logit of its case."""
    errors = [np.abs(a - b).max() / np.abs(b).max() for a, b in zip(found, expected, strict=True)]
    return float(np.max(errors))


def machine() -> dict[str, Any]:
    """What it ran on: the GPU as torch tells of it, and the versions of everything."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    gpu = None
    if torch.cuda.is_available():
        seen = torch.cuda.get_device_properties(0)
        gpu = {"name": seen.name, "capability": f"{seen.major}.{seen.minor}", "bytes": seen.total_memory}
        gpu["cuda"] = torch.version.cuda
    return {"gpu": gpu, "driver": has_gpu(), "python": platform.python_version(), "versions": versions}


def main(words: Sequence[str] | None = None) -> int:
    """Run it all; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=list(RUNTIMES))
    parser.add_argument("--tiny", action="store_true", help="tiny models instead of those of the published size")
    parser.add_argument("--dtype", choices=TOLERANCE, default="float16" if torch.cuda.is_available() else "float32")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--texts", nargs="+", type=int, default=[32])
    parser.add_argument("--repeats", type=int, default=21, help="pairs of passes to time")
    suite = Suite(parser.parse_args(words))
    for name in suite.args.models:
        with tempfile.TemporaryDirectory() as folder:
            suite.attempt(name, lambda n=name, f=folder: suite.model(n, Path(f)))
        # After every model: should the next one end the process, this one is not lost.
        suite.args.out.write_text(json.dumps(suite.report, indent=2) + "\n", "utf-8")
    for end in ("skipped", "failed"):
        for entry in suite.report[end]:
            print(f"{end}: {entry['what']}: {entry['why']}")
    print(f"{len(suite.report['checks'])} comparisons; wrote {suite.args.out}")
    return 3 if suite.report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
