"""How many tokens a reducer removes: exact integer functions of the length, the same for numbers and traced lengths."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

UNLIMITED = 2**31 - 1

Choose = Callable[[Any, Any], Any]


def round_half_even(n: Any, num: int, den: int) -> Any:
    """round(n * num / den), half to even as in Python, for n >= 0, in integers and without a branch.

    `n` may be a number, a traced length or an integer tensor.
    """
    scaled = n * num
    if den % 2:
        return (2 * scaled + den) // (2 * den)  # never a half, and traced lengths stay simple
    return (2 * scaled + den - 1 + scaled // den % 2) // (2 * den)  # a half is rounded up where the floor is odd


@dataclass(frozen=True)
class Amount:
    """An amount of tokens to remove: a share `num/den`, a number `drop`, or all but `keep`."""

    num: int = 0
    den: int = 1
    drop: int = 0
    keep: int = UNLIMITED

    @classmethod
    def share(cls, value: Fraction | str) -> "Amount":
        """A share of the length, exact: share("0.2") is one fifth."""
        fraction = Fraction(value)
        return cls(num=fraction.numerator, den=fraction.denominator)

    def removed(self, entry: Any, current: Any, maximum: Choose = max) -> Any:
        """Tokens to remove. A share is of `entry`, the length when the step began (PuMer counts pruning and
        merging from the same length); `keep` is counted from `current`, the length now. Not limited to what is
        there: that is the reducer's to do."""
        counted = round_half_even(entry, self.num, self.den) + self.drop
        return counted if self.keep == UNLIMITED else maximum(counted, current - self.keep)

    @property
    def is_nothing(self) -> bool:
        """Whether it removes nothing at any length."""
        return self.num == 0 and self.drop == 0 and self.keep == UNLIMITED

    @property
    def is_share(self) -> bool:
        """Whether it is a share of the length and no number of tokens."""
        return self.drop == 0 and self.keep == UNLIMITED

    def to_json(self) -> dict[str, Any]:
        """{"share": "1/5"}, {"drop": 40} or {"keep": 120}."""
        if self.keep != UNLIMITED:
            return {"keep": self.keep}
        if self.drop:
            return {"drop": self.drop}
        return {"share": str(Fraction(self.num, self.den))}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Amount":
        """The inverse of `to_json`."""
        if "keep" in value:
            return cls(keep=int(value["keep"]))
        if "drop" in value:
            return cls(drop=int(value["drop"]))
        return cls.share(str(value["share"]))

    def __str__(self) -> str:
        if self.keep != UNLIMITED:
            return f"keep {self.keep}"
        return f"drop {self.drop}" if self.drop else f"{100 * self.num / self.den:g}%"
