"""Draw many checkpoints as transformers saves them, read each, and compare its logits with transformers'.

python tools/property_draws.py --count 1000
"""

import sys
import tempfile
from pathlib import Path

import click
import draws


@click.command()
@click.option("--count", default=1000, show_default=True, help="How many are drawn.")
@click.option("--first", default=0, show_default=True, help="The seed of the first; the others follow.")
def main(count: int, first: int) -> None:
    """Prints what went wrong and how many checkpoints were refused; exit code 1 when something is wrong."""
    draws.transformers.logging.set_verbosity_error()
    draws.transformers.utils.logging.disable_progress_bar()
    problems, refused = [], []
    for seed in range(first, first + count):
        with tempfile.TemporaryDirectory() as folder:
            found = draws.outcome(seed, Path(folder) / "draw")
        if found.problem:
            problems.append(found.problem)
            click.echo(f"seed {seed}: {found.problem}")
        if found.refused:
            refused.append(found.refused.split(": ", 1)[1])
    click.echo(f"{count} drawn, {len(problems)} wrong, {len(refused)} refused ({len(refused) / count:.1%}):")
    for line in sorted(set(refused)):
        click.echo(f"  {refused.count(line)} x {line}")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
