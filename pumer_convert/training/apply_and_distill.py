"""Both stages in one go: the reducers are inserted, and the result is distilled at once."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pumer_convert.convert.apply import ApplyPlan
from pumer_convert.data.sample import Sample
from pumer_convert.errors import InputError
from pumer_convert.system.output import check_out
from pumer_convert.training.distill import distill
from pumer_convert.training.metrics import Status
from pumer_convert.training.work import WorkFolder


def apply_and_distill(
    plan: ApplyPlan,
    train: Sequence[Sample],
    validation: Sequence[Sample] | None = None,
    *,
    classes: Path | str | None = None,
    device: str = "auto",
    workers: int = 0,
    cache: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda line: None,
    watch: Callable[[Status], None] = lambda status: None,
) -> dict[str, Any]:
    """Write what `prepare_apply` has planned and `distill` it, as the recipe's section `distill:` says, taught by the
    dense checkpoint; only the trained folder, `plan.out`, stays. Gives its report.

    The options are those of `distill`. It runs in one process. The student lies in `.OUT.student` beside `out`, for
    `resume` to go on with, until the training is done. Raises what `distill` raises.
    """
    check_both(plan, overwrite)
    out = plan.out
    student = out.absolute().with_name(f".{out.name}.student")
    try:
        if not (resume and student.exists()):
            replace(plan, out=student).write(overwrite=True, progress=progress)
        return distill(
            student,
            plan.original,
            train,
            validation,
            out,
            plan.recipe.distill,
            classes=classes,
            device=device,
            workers=workers,
            cache=cache,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
            watch=watch,
        )
    finally:
        if not WorkFolder(out).path.exists():  # else it is needed to go on
            shutil.rmtree(student, ignore_errors=True)


def check_both(plan: ApplyPlan, overwrite: bool) -> None:
    """Raises InputError for what keeps a plan from being written and distilled in one go, whatever the data are."""
    if plan.recipe.distill is None:
        raise InputError(
            f"{plan.recipe.path}: it has no section `distill:`, which --distill goes by; `distill: {{}}` is enough."
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("apply runs in one process: apply first, then launch `pumer-convert distill`.")
    check_out(plan.out, overwrite, [plan.checkpoint.path])
