"""The folder of a trained model: the student's, with new weights and the story of their training."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pumer_convert import __version__
from pumer_convert.checkpoint.origin import origin_entry
from pumer_convert.checkpoint.write import write_safetensors
from pumer_convert.errors import InputError
from pumer_convert.system.json_file import read_object
from pumer_convert.system.output import output_folder
from pumer_convert.system.owned import LIST, write_report
from pumer_convert.training.job import Job
from pumer_convert.training.metrics import Metrics, draw_curve, headline
from pumer_convert.training.work import WorkFolder, writing
from pumer_convert.weights import check_finite


def write_output(
    job: Job,
    weights: Mapping[str, Tensor],
    training: Mapping[str, Any],
    metrics: Metrics,
    work: WorkFolder,
    overwrite: bool,
) -> dict[str, Any]:
    """Write `job.out` with these weights and give its report, whose "distill" is `training`."""
    student, source = job.student, job.student.path
    layout = {name: ("float32", student.shape(name)) for name in student.slices}
    with writing(job.out), output_folder(job.out, overwrite, job.inputs) as folder:
        hashes = write_safetensors(folder, _finite(weights, layout, job.out), layout)
        for file in student.companions:
            shutil.copyfile(file, folder / file.name)
        for name, text in student.extra_files.items():
            (folder / name).write_text(text, "utf-8")
        (folder / "config.json").write_text(json.dumps(student.config, indent=2) + "\n", "utf-8")
        if source.is_dir() and (source / "recipe.yaml").exists():
            shutil.copyfile(source / "recipe.yaml", folder / "recipe.yaml")
        shutil.copyfile(work.metrics, folder / "metrics.jsonl")
        if (work.path / "tensorboard").is_dir():
            shutil.copytree(work.path / "tensorboard", folder / "tensorboard")
        draw_curve(metrics, folder / "curve.png", training["metric"])
        (folder / "README.md").write_text(_card(job, training), "utf-8", "surrogateescape")
        return write_report(folder, _report(job, hashes, training), hashes)


def _finite(weights: Mapping[str, Tensor], names: Iterable[str], out: Path) -> Iterator[tuple[str, Tensor]]:
    for name in names:
        tensor = weights[name].float().cpu()
        check_finite(tensor, name, out)
        yield name, tensor


def earlier_report(folder: Path) -> dict[str, Any]:
    """What report.json of a folder says, {} when there is none."""
    try:
        return read_object(folder / "report.json")
    except InputError:
        return {}


def _report(job: Job, hashes: dict[str, str], training: Mapping[str, Any]) -> dict[str, Any]:
    import accelerate
    import safetensors
    import torch
    import transformers

    student = job.student
    packages = (torch, transformers, safetensors, accelerate)
    first = {
        "source": origin_entry(student, job.out),
        "parameters": student.parameters,
        "notes": list(student.notes),
    }
    before = {name: value for name, value in earlier_report(student.path).items() if name != LIST}
    if isinstance(source := before.get("source"), dict) and "relative" in source:
        there = (student.path / source["relative"]).absolute()
        before["source"] = {**source, "relative": os.path.relpath(there, job.out.absolute())}
    return {
        **first,
        **before,
        "pumer_convert": __version__,
        "versions": {package.__name__: package.__version__ for package in packages},
        "out": str(job.out),
        "model": student.family,
        "task": student.task,
        "sha256": hashes,
        "distill": dict(training),
    }


def _card(job: Job, training: Mapping[str, Any]) -> str:
    source = Path(earlier_report(job.student.path).get("source", {}).get("path", job.student.path))
    reduced = "with PuMer token reducers" if job.reduced else "without token reducers"
    taught = f", taught by `{job.teacher.path.name}`" if job.teacher is not None else ""
    lines = [
        f"# {job.out.name}\n",
        f"A {job.student.family} checkpoint ({job.student.task}) {reduced}, made from `{source.name}` by "
        f"pumer-convert {__version__}: {training['steps']} steps of {job.settings.batch_size} samples{taught}.\n",
    ]
    if training["validations"]:
        metric = headline(training["validations"][0]["validation"])
        lines += [f"| step | {metric} |", "|---|---|"]
        lines += [f"| {r['step']} | {r['validation'][metric]:.2%} |" for r in training["validations"]]
        lines.append(f"\nThe weights are those of step {training['weights_of_step']}.\n")
    lines.append(
        "`recipe.yaml` is the recipe word for word, `report.json` what was done, `metrics.jsonl` and `curve.png` how "
        "the training went.\n"
    )
    return "\n".join(lines)
