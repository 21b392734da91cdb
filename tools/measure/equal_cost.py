"""Ways to the same saving on the demo's drawn world: PuMer with early merging, PuMer alone, pruning by other scores,
and smaller images.

    python tools/measure/equal_cost.py --work /tmp/equal --steps 400              # the table of README.md here
    python tools/measure/equal_cost.py --work /tmp/equal --steps 2 --seeds 1 --test 50         # does it run?

Every row costs dense / RATIO multiply-accumulates, as nearly as whole tokens allow; of images in whole patches the next
larger and the next smaller size.
Takes the options of tools/measure/ablations.py for training and testing.
"""

import json
from collections.abc import Sequence
from typing import Any

from ablations import Bench, Variant, fitted, measure, options, run

RATIO = 2.2
CASCADE = ("encoder.1", "encoder.3", "encoder.5")
EARLY, LATE = ("encoder.0", "encoder.1", "encoder.2"), ("encoder.3", "encoder.4", "encoder.5")
ROWS = (
    Variant("pitome early, PuMer late", LATE, 0.2, 0.2, 0.2, first_sites=EARLY, first=0.2, first_by="pitome"),
    Variant("tome early, PuMer late", LATE, 0.2, 0.2, 0.2, first_sites=EARLY, first=0.2, first_by="tome"),
    Variant("PuMer alone", CASCADE, 0.2, 0.2, 0.2),
    Variant("pruning by the CLS's attention", CASCADE, 0.2, 0.0, 0.0, by="cls_attention"),
    Variant("pruning at random", CASCADE, 0.2, 0.0, 0.0, by="random"),
    Variant("images of 72", (), 0.0, 0.0, 0.0, image_size=72),
    Variant("images of 64", (), 0.0, 0.0, 0.0, image_size=64),
)


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [
        f"{report['test']} test questions, {report['steps']} steps of {report['batch_size']} questions, "
        f"mean of {report['seeds']} seeds; dense {report['dense']:.2%}",
        "",
        "| | fewer MACs | image tokens at the end | accuracy | difference, in points |",
        "|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        low, high = row["interval"]
        lines.append(
            f"| {row['name']} | {report['dense_macs'] / row['macs']:.2f}x | {row['image_tokens']} | {row['score']:.2%} "
            f"| {100 * row['difference']:+.2f} ({100 * low:+.2f} .. {100 * high:+.2f}) |"
        )
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    args = options(words, __doc__)
    bench = Bench.of(args)
    family, text = bench.checkpoint.family, bench.text_length
    target = round(bench.plan(ROWS[0]).dense_macs / RATIO)
    rows = [
        row if row.image_size is not None else fitted(row, target, family, bench.spec, text)
        for row in ROWS
        if not args.only or any(part in row.name for part in args.only)
    ]
    report = run(bench, rows, "equal_cost.json", measure)
    print(json.dumps(report, indent=2) if args.json else table(report))


if __name__ == "__main__":
    main()
