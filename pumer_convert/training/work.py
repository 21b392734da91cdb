"""The work folder of a training: states to resume from, the best weights, metrics. Each thing is whole or not there."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pumer_convert.errors import InputError, PumerError

_STATE = "state-"


class WorkFolder:
    """`.OUT.training` beside the output folder OUT.

    run.json                        what is trained on what; see `check`
    state-00000500/                 the last state: what accelerate saves, average.safetensors, and progress.json
    best-00000500.safetensors       the weights of the best validation so far
    metrics.jsonl                   see metrics.py
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.path = out.absolute().with_name(f".{out.name}.training")

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    def best(self, step: int) -> Path:
        """The weights that were the best when they were validated at `step`."""
        return self.path / f"best-{step:08}.safetensors"

    def begin(self, run: Mapping[str, Any], resume: bool, overwrite: bool) -> None:
        """Make the folder for a run, or see that the run that is there is this one.

        Raises InputError when an unfinished run is there and it is neither to be resumed nor overwritten, and when
        the one to resume is another, naming what differs.
        """
        if self.state() is not None and resume:
            self._check(run)
            return
        if self.state() is not None and not overwrite:
            raise InputError(
                f"{self.path}: holds a training that was not finished; go on with --resume, or start anew with "
                "--overwrite."
            )
        with writing(self.path):
            shutil.rmtree(self.path, ignore_errors=True)
            self.path.mkdir()
            (self.path / "run.json").write_text(json.dumps(run, indent=2) + "\n")

    def _check(self, run: Mapping[str, Any]) -> None:
        then = json.loads((self.path / "run.json").read_text("utf-8"))
        now = json.loads(json.dumps(run))
        names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
        if names:
            told = [f"{name} ({_short(then.get(name))} then, {_short(now.get(name))} now)" for name in names]
            raise InputError(
                f"{self.path}: the training to resume differs in {', '.join(told)}; resume it as it was, or start "
                "anew with --overwrite."
            )

    def state(self) -> Path | None:
        """The folder of the last state."""
        found = sorted(self.path.glob(f"{_STATE}*"))
        return found[-1] if found else None

    def partial(self, step: int) -> Path:
        """Where the state of a step is written before it is whole."""
        return self.path / f"partial-{step:08}"

    def keep(self, step: int, best: int) -> None:
        """The state of `step` is whole: it becomes the last one, and earlier ones go.

        So do weights other than those of the step `best`: until now, the state before could have come back to them.
        """
        partial = self.partial(step)
        for file in partial.iterdir():
            _flush(file)
        target = self.path / f"{_STATE}{step:08}"
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        _flush(self.path)
        for other in self.path.glob(f"{_STATE}*"):
            if other != target:
                shutil.rmtree(other, ignore_errors=True)
        for weights in self.path.glob("best-*.safetensors"):
            if weights != self.best(best):
                weights.unlink(missing_ok=True)

    def clean(self) -> None:
        """Remove what a killed process left half-written in here."""
        for left in self.path.glob("*partial*"):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)

    def remove(self) -> None:
        """The training is finished, or has left nothing to go on from."""
        shutil.rmtree(self.path, ignore_errors=True)


def save_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file, whole or not at all."""
    from safetensors.torch import save_file

    partial = file.with_name(f"{file.name}.partial")
    with writing(file):
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, partial)
        _flush(partial)
        partial.replace(file)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Inside, something is written to `path`: what goes wrong becomes one sentence.

    torch and safetensors raise errors of their own for a full disk, so all of them are taken for a failed write.
    """
    try:
        yield
    except PumerError:
        raise
    except Exception as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        if not full and shutil.disk_usage(path.parent).free < 2**20:
            full = True
        if full:
            raise InputError(
                f"{path}: no space left on the device; the last good state is kept, make room and go on with --resume."
            ) from None
        if isinstance(error, OSError):
            raise InputError(f"{path}: cannot be written ({error.strerror or error}).") from None
        raise


def _flush(path: Path) -> None:
    """What was written there survives a power failure from now on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 20 else text[:13].strip('"') + "..."
