"""What one setting may be: of a recipe, of a config, or of a program."""

import math
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

_NUMBER = re.compile(r"\d{1,12}(\.\d{0,20})?(e[+-]?\d{1,2})?|\.\d{1,20}(e[+-]?\d{1,2})?", re.ASCII | re.IGNORECASE)
_COUNT = re.compile(r"0|[1-9]\d{0,8}", re.ASCII)


@dataclass(frozen=True)
class Rule:
    """What one setting may be: one of `words`; true or false where `kind` is bool; a name where it is str, and
    rising whole numbers where it is list; else a number of `kind` from `least` to `most`.

    `above` leaves `least` itself out, `below` leaves `most` out; `optional`: it may be None, which is off or the
    family's default.
    """

    kind: type = str
    least: float = 0
    most: float = math.inf
    above: bool = False
    below: bool = False
    words: tuple[str, ...] = ()
    optional: bool = False

    @property
    def allowed(self) -> str:
        """The rule in words, for messages."""
        if self.words:
            return ", ".join(self.words)
        if self.kind is bool:
            return "true, false"
        if self.kind is str:
            return "a name"
        if self.kind is list:
            return "whole numbers from 0, rising"
        start = "above" if self.above else "from"
        end = "" if self.most == math.inf else f" to {'below ' if self.below else ''}{self.most:g}"
        return f"a{' whole' if self.kind is int else ''} number {start} {self.least:g}{end}"

    def holds(self, value: Any) -> bool:
        """Is this an allowed value?"""
        if value is None:
            return self.optional
        if self.words:
            return value in self.words
        if self.kind is bool:
            return isinstance(value, bool)
        if self.kind is str:
            return isinstance(value, str) and bool(value.strip())
        if self.kind is list:
            whole = isinstance(value, list) and bool(value) and all(type(n) is int and n >= 0 for n in value)
            return whole and all(first < second for first, second in pairwise(value))
        if isinstance(value, bool) or not isinstance(value, int if self.kind is int else int | float):
            return False
        low = value > self.least if self.above else value >= self.least
        high = value < self.most if self.below else value <= self.most
        return low and high and math.isfinite(value)

    def read(self, text: str) -> Any:
        """The value that a text stands for; the text itself when it is no number, which then does not hold."""
        if self.words or self.kind is str:
            return text
        pattern = _COUNT if self.kind is int else _NUMBER
        return self.kind(text) if pattern.fullmatch(text) else text


def setting(default: Any, kind: type = str, **bounds: Any) -> Any:
    """A field of a dataclass with its rule, under `metadata["rule"]`; it may be None where that is its default."""
    return field(default=default, metadata={"rule": Rule(kind, optional=default is None, **bounds)})
