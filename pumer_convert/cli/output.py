"""What the verbs print: tables for people, one JSON object for programs."""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from pumer_convert.convert.plan import Plan
from pumer_convert.recipe.schema import Profile


def progress(line: str) -> None:
    """One line of progress, on standard error."""
    click.echo(line, err=True)


def emit(report: Mapping[str, Any], as_json: bool, human: Callable[[], str]) -> None:
    """The report as JSON on standard output, or the words for a person."""
    click.echo(json.dumps(report, indent=2, default=str) if as_json else human())


def graphs_in(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The reports of a model's graphs: of several, or the one that it is itself."""
    return list(report["graphs"].values()) if "graphs" in report else [report]


def equal(report: Mapping[str, Any]) -> str:
    """How near an exported graph is to eager."""
    check, what = report["verification"], "logits" if report.get("graph", "model") == "model" else "outputs"
    half = check.get("half_precision")
    cosine = "" if half is None else f", cosine {half['cosine']:.5f} to float32"
    return (
        f"{what} within {check['logits_error']:.1e} of eager (allowed {check['tolerance']:.0e}) in {check['cases']} "
        f"cases{cosine}; {check['decisions_that_differ']} of {check['decisions']} decisions differ"
    )


def chosen(choices: Mapping[str, str]) -> list[str]:
    """What holds of a family's choices, a line each, as a recipe says it."""
    return [f"{key}: {value}" for key, value in choices.items()]


def type_table(report: Mapping[str, Any]) -> str:
    """What half precision costs in every layer; nothing in float32."""
    if (told := report["verification"].get("half_precision")) is None:
        return ""
    rows = [("layer", f"{report['dtype']} differs by", "largest number")]
    rows += [(name, f"{row['drift']:.1e}", f"{row['largest']:.3g}") for name, row in told["layers"].items()]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if first := told["first_beyond_tolerance"]:
        lines.append(f"{first} is the first layer beyond the {report['verification']['tolerance']:.0e} of outputs")
    return "\n".join([*lines, f"judged by {told['judge']}"])


def plan_table(plan: Plan) -> str:
    """Tokens and MACs of every layer."""
    head = ("layer", "image", "text", "dense MMACs", "reduced", "reducers")
    rows: list[tuple[str, ...]] = [head]
    for row in plan.rows:
        image = f"{row.image_in}" if row.image_in == row.image_out else f"{row.image_in} -> {row.image_out}"
        text = f"{row.text_in}" if row.text_in == row.text_out else f"{row.text_in} -> {row.text_out}"
        costs = (row.dense_macs, row.macs, row.reducers)
        rows.append((row.layer, image, text, *(f"{cost / 1e6:.1f}" for cost in costs)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    total = (
        f"{plan.dense_macs / 1e9:.2f} -> {(plan.macs + plan.reducer_macs) / 1e9:.2f} GMACs per example at "
        f"{plan.text_length} text tokens: x{plan.ratio:.2f} (reducers {plan.reducer_macs / 1e9:.3f})"
    )
    return "\n".join([*(line.rstrip() for line in lines), "", total, *_shares(plan)])


def _shares(plan: Plan) -> list[str]:
    """Where the cost is, of a model of several parts; and a word on a recipe that leaves the largest as it is."""
    if not plan.parts:
        return []
    whole = sum(dense for dense, _ in plan.parts.values())
    told = (f"{name} {dense / whole:.1%} (x{dense / max(part, 1):.2f})" for name, (dense, part) in plan.parts.items())
    lines = [f"of the dense cost: {', '.join(told)}"]
    name, (dense, part) = max(plan.parts.items(), key=lambda item: item[1][0])
    if plan.edits and dense < 1.05 * part:
        lines.append(f"note: most of the cost is the {name}'s, which this recipe leaves as it is")
    return lines


def image_size(_: Any, __: Any, value: str | None) -> int | list[int] | None:
    """Option value S or HxW."""
    if value is None:
        return None
    try:
        sides = [int(side) for side in value.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise click.BadParameter(f"'{value}' is not an image size; write 384 or 384x640.")
    return sides[0] if len(sides) == 1 else sides


def ratio(_: Any, __: Any, value: str) -> tuple[int, int]:
    """Option value W:H."""
    width, _sign, height = value.partition(":")
    if not (width.isdecimal() and height.isdecimal() and 0 < int(width) <= 100 and 0 < int(height) <= 100):
        raise click.BadParameter(f"'{value}' is no ratio of width to height; write 3:2.")
    return int(width), int(height)


def profiles(_: Any, __: Any, values: tuple[str, ...]) -> tuple[Profile, ...]:
    """Option values such as 1:1:8,4:32:40 or 1:1:8,4:32:40,19:144:228."""
    profiles: list[Profile] = []
    for value in values:
        try:
            batch, text, *more = (tuple(int(n) for n in side.split(":")) for side in value.split(","))
        except ValueError:
            batch, text, more = (), (), []
        whole = len(more) < 2 and all(len(sides) == 3 for sides in (batch, text, *more))
        if not whole or not all(1 <= sides[0] <= sides[1] <= sides[2] for sides in (batch, *more)):
            raise click.BadParameter(
                f"'{value}' is no profile; write batch, text and perhaps patches rising, as in 1:1:8,4:32:40."
            )
        if not 2 <= text[0] <= text[1] <= text[2]:
            raise click.BadParameter(f"'{value}' has text lengths {text}; they rise from 2, as in 1:1:8,4:32:40.")
        profiles.append(Profile(batch, text, *more))  # type: ignore[arg-type]
    return tuple(profiles)


class EngineBar:
    """How far an engine is, as one line that rewrites itself; nothing where standard error is no terminal."""

    def __init__(self) -> None:
        self.shown = sys.stderr.isatty()

    def __call__(self, phase: str, step: int, total: int) -> None:
        """`step` of `total` steps of a phase are done."""
        if self.shown:
            click.echo(f"\r\033[K{phase[:60]}: {(step + 1) * 100 // max(total, 1)}%", err=True, nl=False)

    def close(self) -> None:
        """Take the line away."""
        if self.shown:
            click.echo("\r\033[K", err=True, nl=False)
