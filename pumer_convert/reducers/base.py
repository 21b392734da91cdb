"""What every reducer is: a pure module from Tokens to Tokens, and its twin as an ONNX function."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pumer_convert.amount import Amount
from pumer_convert.tokens import Tokens

DOMAIN = "pumer"
OPSET = 20
Size = int | torch.SymInt


@dataclass(frozen=True)
class Guide:
    """What a reduction is told besides the tokens themselves.

    relevance  [B, N]  float32; how much the text asks for each image token; for reducers that prune.
    entry      [B, N0] mask of the tokens at the entry of the step: shares are of this length (PuMer counts both
                       its pruning and its merging from the length before either).
    decision           a decision (see `Reduction`) to follow instead of taking one; for verification and replay.
    """

    entry: Tensor
    relevance: Tensor | None = None
    decision: Tensor | None = None


@dataclass(frozen=True)
class Reduction:
    """What a reducer gives back.

    tokens    the reduced tokens.
    decision  int64, everything that was chosen: for pruning [B, K] the positions kept, in the order of the result
              (-1: an empty place); for merging [B, A] the odd token that each even token was merged into (-1: none).
    slack     [B] float32, only when a decision was given: by how much the given one is worse than the reducer's
              own, in the unit of its scores. Zero when they are equally good.
    """

    tokens: Tokens
    decision: Tensor
    slack: Tensor | None = None


class BaseReducer(nn.Module, ABC):
    """Takes Tokens and a Guide, gives a Reduction. It never mixes examples and keeps frozen tokens.

    Beside the computation stands its twin in standard operators (opset 20), an ONNX function of domain `pumer`:

    function    its name.
    attributes  of the function, as ONNX text, beside the amount's and `spare` (see `spare_of`): "margin: float".
    inputs      names of its inputs.
    outputs     names of its outputs -> the input of which each is what is left, None: of none (the decision).
    counts      ONNX text that says how many are left, `k` [1], see `how_many`.
    statements  ONNX text of the rest.
    """

    function: ClassVar[str]
    attributes: ClassVar[str] = ""
    inputs: ClassVar[tuple[str, ...]]
    outputs: ClassVar[dict[str, str | None]]
    counts: ClassVar[str]
    statements: ClassVar[str]

    def __init__(self, amount: Amount) -> None:
        super().__init__()
        self.amount = amount

    def extra_repr(self) -> str:
        return str(self.amount)

    @abstractmethod
    def forward(self, tokens: Tokens, guide: Guide) -> Reduction:
        """Reduce `tokens`; see `Reduction`."""

    @classmethod
    def body(cls, opset: int = OPSET) -> str:
        """The ONNX function, as text."""
        return cls._text(opset, cls.counts + cls.statements)

    @classmethod
    def free_body(cls, opset: int = OPSET) -> str:
        """A function of the same name that keeps as many tokens, namely the first ones, and looks at nothing: what a
        model would be if its reducers cost nothing."""
        cut = "".join(
            f"        {name} = Slice ({of}, zero, k, one, one)\n" for name, of in cls.outputs.items() if of is not None
        )
        # Decisions are followed outside as well: they are of the right shape, and name places that there are.
        rest = "".join(
            f"        {name}_of = Slice (mask, zero, k, one, one)\n        {name} = Cast <to = 7> ({name}_of)\n"
            for name, of in cls.outputs.items()
            if of is None
        )
        return cls._text(opset, cls.counts + cut + rest)

    @classmethod
    def _text(cls, opset: int, statements: str) -> str:
        attributes = ", ".join(filter(None, ("num: int, den: int, drop: int, keep: int, spare: int", cls.attributes)))
        return f"""
    <domain: "{DOMAIN}", opset_import: ["" : {opset}]>
    {cls.function} <{attributes}> ({", ".join(cls.inputs)}) => ({", ".join(cls.outputs)})
    {{
        {CONSTANTS}
        {statements}
    }}
    """

    @classmethod
    def spare_of(cls, stays: int) -> int:
        """The number from which the kind tells the least that is left where `stays` tokens are frozen (see `least`)."""
        return max(stays, 1)

    @classmethod
    def least(cls, n: Size, spare: int) -> Size:
        """How many of n tokens are left at the least, for traced lengths as for numbers."""
        return torch.sym_min(n, spare)  # type: ignore[no-untyped-call, no-any-return]

    def values(self, stays: int = 0) -> dict[str, Any]:
        """The amount, and what else the ONNX function takes as attributes, where `stays` tokens are frozen."""
        a = self.amount
        return {"num": a.num, "den": a.den, "drop": a.drop, "keep": a.keep, "spare": self.spare_of(stays)}

    def call(
        self, stays: int, given: Sequence[Tensor], types: Sequence[torch.dtype], shapes: Sequence[Sequence[Size]]
    ) -> Sequence[Tensor]:
        """A call of the ONNX function, while a graph is traced: the results of these types and shapes."""
        return torch.onnx.ops.symbolic_multi_out(
            f"{DOMAIN}::{self.function}", given, self.values(stays), dtypes=types, shapes=shapes, version=1
        )

    def left(self, entry: Size, current: Size, stays: int) -> Size:
        """How many of `current` tokens are left, no fewer than `least`; for traced lengths as for numbers.

        A traced length of the usual kind, an odd share of the length itself, is one rising function of it without a
        branch: the exporter handles it faster, and TensorRT, which bounds lengths by intervals, sees that it is never
        negative (n - removed(n) seems to be, after a few steps).
        """
        a, spare = self.amount, self.spare_of(stays)
        if isinstance(entry, int) and isinstance(current, int):
            return max(current - int(a.removed(entry, current)), int(self.least(current, spare)))
        if entry is current and a.is_share and a.den % 2:
            left: Size = (2 * current * (a.den - a.num) + a.den - 1) // (2 * a.den)
            if all(n - a.removed(n, n) >= self.least(n, spare) for n in range(2, 1024)):
                return left
        else:
            left = current - a.removed(entry, current, torch.sym_max)
        most: Size = torch.sym_max(left, self.least(current, spare))  # type: ignore[no-untyped-call]
        return most

    def removed_each(self, entry: Tensor, current: Tensor, room: Tensor) -> Tensor:
        """The same for every example: int64 [B] each."""
        wanted = self.amount.removed(entry, current, torch.maximum)
        return torch.minimum(wanted, room)


def in_order(scores: Tensor) -> Tensor:
    """Positions of `scores` [B, N] from the highest down; equal ones by position. int64 [B, N].

    A total order, so that every runtime chooses the same tokens: ONNX's TopK breaks ties by the lower index too.
    """
    return scores.argsort(dim=1, descending=True, stable=True)


def ranks(order: Tensor) -> Tensor:
    """The inverse of a permutation: ranks(order)[b, order[b, i]] = i."""
    return order.argsort(dim=1)


CONSTANTS = """
        zero = Constant <value = int64[1] {0}> ()
        one = Constant <value = int64[1] {1}> ()
        two = Constant <value = int64[1] {2}> ()
        minus_one = Constant <value = int64[1] {-1}> ()
        end = Constant <value = int64[1] {9223372036854775807}> ()
        zero0 = Constant <value_int: int = 0> ()
        one0 = Constant <value_int: int = 1> ()
        two0 = Constant <value_int: int = 2> ()
"""
"""Constants that the ONNX bodies share; a trailing 0 marks a scalar."""

AMOUNT = """
        num0 = Constant <value_int: int = @num> ()
        den0 = Constant <value_int: int = @den> ()
        drop0 = Constant <value_int: int = @drop> ()
        keep0 = Constant <value_int: int = @keep> ()
        spare0 = Constant <value_int: int = @spare> ()
        dden = Mul (den0, two)
        less0 = Sub (den0, one)
"""
"""The function's attributes as tensors."""


def how_many(least: str, entry: str = "states") -> str:
    """How many tokens are left, as ONNX text: `k` [1] of the `n` [1] of `states`, where `entry` names the input that
    stands for the length at the entry of the step, and the text `least` says how many stay at the least."""
    entries = "" if entry == "states" else f"n_entry = Shape <start = 1, end = 2> ({entry})"
    return f"""
        n = Shape <start = 1, end = 2> (states)
        {entries}
        {AMOUNT}
        {wanted("wanted", "n" if entry == "states" else "n_entry", "n")}
        {least}
        rest = Sub (n, wanted)
        k = Max (rest, least)
"""


def wanted(name: str, entry: str, current: str) -> str:
    """`Amount.removed` as ONNX text: int64 lengths `entry` and `current` [k] -> `name` [k]; a half is rounded up
    where the floor is odd.

    The length of the whole sequence and the lengths of the examples go through it apart: TensorRT computes shapes
    at build time and refuses one that was ever joined with data. It computes them as intervals, in which n - wanted(n)
    can seem negative after a few steps: bodies say max(n - wanted, the least that can be left) and so stay positive.
    """
    return f"""
        {name}_scaled = Mul ({entry}, num0)
        {name}_floor = Div ({name}_scaled, den0)
        {name}_odd = Mod ({name}_floor, two)
        {name}_twice = Mul ({name}_scaled, two)
        {name}_shifted = Add ({name}_twice, less0)
        {name}_untied = Add ({name}_shifted, {name}_odd)
        {name}_rounded = Div ({name}_untied, dden)
        {name}_dropped = Add ({name}_rounded, drop0)
        {name}_beyond = Sub ({current}, keep0)
        {name} = Max ({name}_dropped, {name}_beyond)
"""
