"""Draw many folders as transformers saves them, answer by each from picture files and texts, and compare.

python tools/measure/property_draws.py --count 1000
"""

import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

import click
import draws


@click.command()
@click.option("--count", default=1000, show_default=True, help="How many are drawn.")
@click.option("--first", default=0, show_default=True, help="The seed of the first; the others follow.")
def main(count: int, first: int) -> None:
    """Prints what went wrong and how many folders were refused; exit code 1 when something is wrong."""
    draws.transformers.logging.set_verbosity_error()
    draws.transformers.utils.logging.disable_progress_bar()
    wrong, refused = 0, Counter[str | None]()
    for seed in range(first, first + count):
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = draws.outcome(seed, Path(folder))
                problem = found.problem
            except Exception:  # a fault of ours must not end the others' run
                found, problem = None, traceback.format_exc()
        if problem:
            wrong += 1
            click.echo(f"seed {seed}: {problem}")
        if found and found.refused:
            refused[found.key] += 1
    total = refused.total()
    click.echo(f"{count} drawn, {wrong} wrong, {total} refused ({total / count:.1%}):")
    for key, times in refused.most_common():
        click.echo(f"  {times} x {key}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
