"""Every reader against files that are broken at random: each is read, or refused in a sentence.

    python tools/measure/fuzz_readers.py finds --reader pickle --reader json --minutes 2 --seed 0

Small files as the libraries of origin write them are broken, by a seed, in their bytes or in their structure, and read
by a process of 4 GB. What ends otherwise than well or by a PumerError is a find: a traceback, a crash, a process that
is killed or takes more than a minute. Its input is kept as FOLDER/reader-seed/, and its seed is printed.
"""

import io
import multiprocessing
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import click
import fuzz_dual_encoders
import fuzz_inputs

READERS = {**fuzz_inputs.READERS, **fuzz_dual_encoders.READERS}
MEMORY = 4 * 2**30
SECONDS = 60


def work(name: str, whole: Path, pipe: Connection) -> None:
    """Reads what is sent over the pipe, seed by seed, and answers each by what went wrong, "" when nothing did."""
    import torch
    import transformers

    from pumer_convert.errors import PumerError

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    sys.stderr = io.StringIO()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pipe.send("ready")
    while True:
        seed, folder = pipe.recv()
        shutil.copytree(whole, folder)
        READERS[name].damage(folder, random.Random(seed))
        said = ""
        try:
            READERS[name].read(folder)
        except PumerError as error:
            said = "more than a sentence" if "\n" in str(error).strip() else ""
        except BaseException:
            said = traceback.format_exc()
        pipe.send(said)


def tries(name: str, whole: Path, scratch: Path, seeds: Iterator[int], until: float) -> Iterator[tuple[int, Path, str]]:
    """(seed, input, what went wrong) of one seed after the other."""
    context = multiprocessing.get_context("spawn")
    process = None
    for seed in seeds:
        if time.monotonic() > until:
            break
        if process is None:
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(name, whole, theirs), daemon=True)
            process.start()
            theirs.close()
            ours.recv()  # it loads torch first
        folder = scratch / f"{name}-{seed}"
        said = f"killed by no answer in {SECONDS} s"
        ours.send((seed, folder))
        try:
            if ours.poll(SECONDS):
                said = ours.recv()
            else:
                process.kill()
                process.join()
        except (EOFError, ConnectionResetError):
            process.join()
            said = f"the process ended with code {process.exitcode}"
        yield seed, folder, said
        shutil.rmtree(folder, ignore_errors=True)
        if not process.is_alive():
            process.join()
            process = None
    if process is not None:
        process.kill()


@click.command()
@click.argument("finds", type=click.Path(path_type=Path))
@click.option("--reader", "readers", multiple=True, type=click.Choice(list(READERS)), help="Repeatable (default: all).")
@click.option("--minutes", type=float, default=2, show_default=True, help="Of each reader.")
@click.option("--seed", type=int, default=0, show_default=True, help="The first one; the others follow.")
@click.option("--count", type=int, help="Seeds of each reader, if they are to be counted.")
def main(finds: Path, readers: tuple[str, ...], minutes: float, seed: int, count: int | None) -> None:
    """Read broken files and keep those in FINDS that ended neither well nor in a sentence; exit code 1 if any did."""
    found = 0
    with tempfile.TemporaryDirectory() as made:
        for name in readers or READERS:
            whole, done, last = Path(made) / f"whole-{name}", 0, ""
            whole.mkdir()
            READERS[name].make(whole)
            until = time.monotonic() + 60 * minutes
            seeds = iter(range(seed, seed + count if count is not None else sys.maxsize))
            for at, folder, said in tries(name, whole, Path(made), seeds, until):
                done += 1
                if not said:
                    continue
                found += 1
                kept = finds / f"{name}-{at}"
                shutil.copytree(folder, kept, dirs_exist_ok=True)
                (kept / "what-happened.txt").write_text(said, "utf-8", "backslashreplace")
                line = said.strip().splitlines()[-1][:200]
                if line != last:
                    click.echo(f"{name} {at}: {line}")
                last = line
            click.echo(f"{name}: {done} files, {found} finds so far")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
