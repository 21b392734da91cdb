"""The demo's whole path: plan, insert the reducers, distill on drawn scenes, evaluate, export, and a picture."""

import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pumer_convert.convert.apply import prepare_apply
from pumer_convert.convert.load import load
from pumer_convert.data.sample import Sample
from pumer_convert.demo import CHECKPOINT, RECIPE
from pumer_convert.demo.picture import draw_survivors
from pumer_convert.demo.world import samples
from pumer_convert.recipe.settings import DistillSettings
from pumer_convert.system.output import output_files

if TYPE_CHECKING:
    from pumer_convert.training.metrics import Status

BATCH = 32


def lessons(task: str, split: str, count: int, seed: int = 0) -> list[Sample]:
    """Samples of the drawn world in the form that tasks take."""
    target: dict[str, Callable[[str], Any]] = {"vqa": lambda answer: {answer: 1.0}, "nlvr2": lambda a: a == "true"}
    return [
        Sample(f"{split}-{i}", s.images, s.text, target.get(task, str)(s.answer), f"world:{split}:{i}")
        for i, s in enumerate(samples(task, split, count, seed))
    ]


def run_demo(
    out: Path,
    *,
    steps: int = 100,
    test: int = 1000,
    progress: Callable[[str], None] = lambda line: None,
    watch: "Callable[[Status], None]" = lambda status: None,
) -> dict[str, Any]:
    """Convert the embedded ViLT, train it for `steps` steps of 32 fresh questions, measure it on `test` unseen ones,
    export it to `out` (with an engine where TensorRT-RTX is installed) and draw `out`/demo.png. Gives the report."""
    from pumer_convert.data.preprocess import Preprocessor
    from pumer_convert.evaluation.evaluate import compare
    from pumer_convert.evaluation.predict import predict_each
    from pumer_convert.export.folder import export_folder
    from pumer_convert.export.tensorrt import EngineSettings
    from pumer_convert.tasks import open_task
    from pumer_convert.training.distill import distill

    engine = importlib.util.find_spec("tensorrt_rtx") is not None
    plan = prepare_apply(CHECKPOINT, RECIPE, out)
    with tempfile.TemporaryDirectory() as scratch:
        progress("1/4 plan and apply")
        reduced = Path(scratch) / "reduced"
        replace(plan, out=reduced).write()
        progress(f"2/4 distill for {steps} steps of {BATCH} questions")
        settings = plan.recipe.distill or DistillSettings()
        settings = settings.replaced({"epochs": 1, "batch_size": BATCH, "keep": "last"})
        train = lessons("vqa", "train", steps * BATCH)
        before = load(reduced)
        distill(reduced, CHECKPOINT, train, None, out, settings, device="cpu", progress=progress, watch=watch)
    progress(f"3/4 evaluate on {test} unseen questions")
    models, preprocessor = (load(CHECKPOINT), before, load(out)), Preprocessor.of(CHECKPOINT)
    task, unseen = open_task("vqa", models[0].config), lessons("vqa", "test", test)  # type: ignore[arg-type]
    dense, untrained, trained = predict_each(models, unseen, task, preprocessor, batch_size=BATCH)
    comparison = compare(trained, dense, unseen)
    with output_files(out / "demo.png", overwrite=False) as file:
        draw_survivors(models[2], preprocessor, unseen[:4], (dense.answers, trained.answers), file)
    progress("4/4 export to ONNX and verify" + (", build an engine" if engine else ""))
    report = export_folder(out, trt=EngineSettings("tensorrt-rtx") if engine else None, in_subprocess=True)
    report["plan"] = plan.plan.to_json()
    report["evaluation"] = {
        "questions": test,
        "dense": dense.metrics[dense.metric],
        "reduced": untrained.metrics[untrained.metric],
        "distilled": trained.metrics[trained.metric],
        "difference": comparison.difference,
        "interval": comparison.interval,
        "speedup": comparison.speedup,
    }
    report["picture"] = str(out / "demo.png")
    return report
