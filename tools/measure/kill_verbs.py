"""Kill every verb that writes at random moments, and see what is left: old or new files, whole, and no process.

    python tools/measure/kill_verbs.py --moments 20

Each verb works on tiny models, in a process that is forked where everything is imported already. After the kill a
reader must find old or new files or be refused, processes must be gone, and the same verb, run once more, must end well
and leave no partial folder.
"""

import contextlib
import importlib.util
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import random_checkpoint
from PIL import Image

from pumer_convert.demo import CHECKPOINT
from pumer_convert.errors import InputError
from pumer_convert.system.owned import listed, strangers, unproven
from pumer_convert.system.whole import check_whole

NUMBERS = (signal.SIGKILL, signal.SIGTERM)
GONE = 8.0
"""Seconds that processes have to end after the one that started them."""
RECIPE = """recipe: 1
model: vilt
reduce:
  - {at: encoder.0, prune: {image: 0.1}, merge: {image: 0.2, text: 0.2}}
export: {dtype: float32, profiles: [{batch: [1, 1, 1], text: [4, 8, 8]}]}
"""


class FaultError(Exception):
    """What a kill left is not as it should be."""


@dataclass(frozen=True)
class Verb:
    """A command line, the place that it writes, and how to see that what is there is whole: it raises an error if
    not."""

    words: list[str]
    out: str
    check: Callable[[Path], None]


def folder(path: Path) -> None:
    """A folder with a list of all that is in it."""
    found = strangers(path)
    if found or set(listed(path / "report.json") or {}) - {p.relative_to(path).as_posix() for p in path.rglob("*")}:
        raise FaultError(f"{path.name} is not whole: {found}")


def exported(path: Path) -> None:
    """An ONNX file or an engine with its sidecar."""
    check_whole(path)
    names = listed(path.with_name(f"{path.name}.json"))
    if not names or unproven(path.parent, f"{path.name}.json", names):
        raise FaultError(f"{path.name} is not what its sidecar tells of")


def picture(path: Path) -> None:
    """A picture that opens to its last row."""
    with Image.open(path) as image:
        image.load()


def lines(path: Path) -> None:
    """JSON lines."""
    for line in path.read_text("utf-8").splitlines():
        json.loads(line)


def verbs(modelopt: Path | None = None) -> dict[str, Verb]:
    """Those that write, in the order in which they build on one another."""
    data, again = ["--data", "data.jsonl"], "--overwrite"
    training = ["--epochs", "1", "--batch-size", "2", "--device", "cpu"]
    found = {
        "demo --files": Verb(["demo", "--files", "files", again], "files", folder),
        "apply": Verb(["apply", "--recipe", "recipe.yaml", "dense", again], "dense-pumer", folder),
        "distill": Verb(["distill", "dense-pumer", *data, *training, "-o", "taught", again], "taught", folder),
        "export --onnx": Verb(["export", "dense-pumer", "-o", "served", again], "served/model.onnx", exported),
        "export --triton": Verb(["export", "--triton", "dense-pumer", "-o", "served", again], "served/triton", folder),
        "evaluate --flips": Verb(
            ["evaluate", "dense-pumer", *data, "--flips", "flips.jsonl", "--workers", "1", "--device", "cpu", again],
            "flips.jsonl",
            lines,
        ),
        "show": Verb(
            ["show", "dense-pumer", "--image", "0.png", "--text", "what is it?", "-o", "left.png", again],
            "left.png",
            picture,
        ),
        "bench --plot": Verb(
            ["bench", "dense-pumer", "--batch", "1", "--text", "8", "--repeats", "3", "--plot", "bench.png", again],
            "bench.png",
            picture,
        ),
    }
    if importlib.util.find_spec("tensorrt_rtx") is not None:
        words = ["export", "--trt", "--flavour", "tensorrt-rtx", "dense-pumer", "-o", "served", again]
        found["export --trt"] = Verb(words, "served/model.engine", exported)
    mode = "int8-cpu" if modelopt is None else "int8"
    words = ["quantize", "served", *data, "--examples", "2", "--mode", mode, again]
    words += [] if modelopt is None else ["--modelopt", str(modelopt)]
    found["quantize"] = Verb(words, f"served/model.{mode}.onnx", exported)
    return found


def workspace(home: Path) -> None:
    """A tiny checkpoint, a recipe, pictures and questions."""
    random_checkpoint.write(home / "dense", "vilt", "sharded", "vqa", depth=2)
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        shutil.copyfile(CHECKPOINT / name, home / "dense" / name)
    (home / "recipe.yaml").write_text(RECIPE)
    config = json.loads((home / "dense" / "config.json").read_text())
    config["id2label"] = {key: f"answer {key}" for key in config["id2label"]}
    (home / "dense" / "config.json").write_text(json.dumps(config))
    rows = [{"id": str(i), "image": f"{i}.png", "text": "what is it?", "answer": "answer 1"} for i in range(4)]
    for i in range(4):
        Image.new("RGB", (40, 40), (60 * i, 0, 0)).save(home / f"{i}.png")
    (home / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def start(verb: Verb, home: Path) -> int:
    """The process of a verb, which leads a session of its own."""
    if child := os.fork():
        return child
    code = 70
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        log = os.open(home.with_name(f"{home.name}.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(log, stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))
        os.chdir(home)
        sys.argv = ["pumer-convert", *verb.words]
        from pumer_convert.cli import main

        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
    finally:
        # Workers end by this process's exit functions, which forked ones share with whoever forked them.
        sys.stderr.flush()
        import multiprocessing.util

        multiprocessing.util._exit_function()
        os._exit(code)


def wait(child: int) -> int:
    """The exit code; minus the signal's number when it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def session(leader: int) -> list[int]:
    """The processes of a session that live."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = place.read_text().rsplit(")", 1)[1].split()
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append(int(place.parent.name))
    return found


def left(home: Path) -> list[str]:
    """Partial folders and the like; the state of a training is there to be resumed."""
    return [str(path.relative_to(home)) for path in home.rglob(".*") if not path.name.endswith(".training")]


def content(path: Path) -> object:
    """What is at a place, to be compared."""
    if path.is_dir():
        return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    return path.read_bytes() if path.exists() else None


def prepare(home: Path, chosen: dict[str, Verb]) -> dict[str, float]:
    """Run every verb once; how many seconds each takes."""
    workspace(home)
    took = {}
    for name, verb in chosen.items():
        before = time.monotonic()
        if code := wait(start(verb, home)):
            raise FaultError(f"{name} ends {code}: {home.with_name(f'{home.name}.log').read_text()[-500:]}")
        took[name] = time.monotonic() - before
        verb.check(home / verb.out)
    return took


def kill(verb: Verb, home: Path, number: int, moment: float) -> int:
    """Send a verb a signal after `moment` seconds and look at what is left. Gives its exit code. Raises FaultError."""
    before = content(home / verb.out)
    child = start(verb, home)
    time.sleep(moment)
    os.kill(child, number)
    code = wait(child)
    if code not in (0, -number, 128 + number):
        raise FaultError(f"it ends {code}")
    deadline = time.monotonic() + GONE
    while there := session(child):
        if time.monotonic() > deadline:
            raise FaultError(f"{len(there)} process(es) are still there")
        time.sleep(0.05)
    if content(home / verb.out) != before:
        try:
            verb.check(home / verb.out)
        except InputError:
            if number != signal.SIGKILL:  # a set of files, which the next run completes; readers are told
                raise
    if number != signal.SIGKILL and code and left(home):
        raise FaultError(f"{left(home)} stay")
    if again := wait(start(verb, home)):
        raise FaultError(f"the next run ends {again}")
    verb.check(home / verb.out)
    if left(home):
        raise FaultError(f"{left(home)} stay after the next run")
    return code


@click.command()
@click.option("--moments", default=20, show_default=True, help="For each verb and signal.")
@click.option("--seed", default=0, show_default=True)
@click.option("--only", multiple=True, help="Verbs; repeatable (default: all).")
@click.option(
    "--modelopt",
    type=click.Path(path_type=Path),
    metavar="PYTHON",
    help="For quantize in int8; without it, in int8-cpu.",
)
def main(moments: int, seed: int, only: tuple[str, ...], modelopt: Path | None) -> None:
    """Kill every verb that writes at random moments."""
    preload()
    chosen, draw, faults = verbs(modelopt), random.Random(seed), 0
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        home.mkdir()
        took = prepare(home, chosen)
        for name, verb in chosen.items():
            for number in NUMBERS if not only or name in only else ():
                codes = []
                for _ in range(moments):
                    moment = draw.uniform(0, took[name])
                    try:
                        codes.append(kill(verb, home, number, moment))
                    except (FaultError, InputError) as fault:
                        faults += 1
                        click.echo(f"FAULT: {name}, {signal.Signals(number).name} after {moment:.3f} s: {fault}")
                ended = ", ".join(f"{codes.count(code)} x {code}" for code in sorted(set(codes)))
                click.echo(f"{name}: {signal.Signals(number).name} at {moments} moments; exit codes {ended}")
    sys.exit(faults > 0)


def preload() -> None:
    """Import what verbs import, for the processes that are forked."""
    import torch

    torch.set_num_threads(1)


if __name__ == "__main__":
    main()
