"""What reduction costs in accuracy on the demo's drawn world: settings from mild to strong, each distilled over seeds.

    python tools/measure/accuracy.py --work /tmp/accuracy --json > accuracy.json     # the table of README.md here
    python tools/measure/accuracy.py --work /tmp/accuracy --steps 2 --seeds 1 --test 50        # does it run?

Takes the options of tools/measure/ablations.py for training and testing.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ablations import Bench, Variant, measure, options, run
from torch import Tensor

SETTINGS = (
    Variant("late", ("encoder.3", "encoder.4", "encoder.5"), 0.2, 0.2, 0.2),
    Variant("late, strong", ("encoder.3", "encoder.4", "encoder.5"), 0.3, 0.3, 0.2),
    Variant("every second layer", ("encoder.1", "encoder.3", "encoder.5"), 0.2, 0.2, 0.2),
)


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [
        f"{report['test']} test questions, {report['steps']} steps of {report['batch_size']} questions, "
        f"mean of {report['seeds']} seeds; dense {report['dense']:.2%}",
        "",
        "| sites | p, m, q | fewer MACs | image tokens | reduced | distilled | difference, in points | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        low, high = row["interval"]
        shares = ", ".join(f"{row[name]:g}" for name in ("prune", "merge", "text"))
        places = ",".join(site.removeprefix("encoder.") for site in row["sites"])
        lines.append(
            f"| encoder.{places} | {shares} | {report['dense_macs'] / row['macs']:.2f}x "
            f"| {report['image_tokens']} -> {row['image_tokens']} | {row['untrained']:.2%} | {row['score']:.2%} "
            f"| {100 * row['difference']:+.2f} ({100 * low:+.2f} .. {100 * high:+.2f}) "
            f"| {row['seconds']:.0f} |"
        )
    return "\n".join(lines)


def before_and_after(bench: Bench, setting: Variant, dense: Tensor, steps: int) -> dict[str, Any]:
    """A row that also tells the score of the reduced model before any training."""
    untrained = measure(bench, replace(setting, training="none"), dense, steps)["score"]
    return {**measure(bench, setting, dense, steps), "untrained": untrained}


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    args = options(words, __doc__)
    bench = Bench.of(args)
    report = run(bench, SETTINGS, "accuracy.json", before_and_after)
    print(json.dumps(report, indent=2) if args.json else table(report))


if __name__ == "__main__":
    main()
