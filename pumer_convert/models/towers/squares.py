"""How a projector makes the grid of a picture's patches smaller: each square of patches becomes a token; torch-free."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Squares(ABC):
    """Squares of patches, their tokens row by row. `side` is how many patches or how many squares lie side by side,
    as the class says; the patches of a side are a multiple of it."""

    side: int
    verb: ClassVar[str]

    @abstractmethod
    def grid(self, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns of the tokens of so many patches."""

    @abstractmethod
    def token(self, squares: "Tensor") -> "Tensor":
        """The token of each of R x S squares: [B, R, height, S, width, C] -> [B, R, S, C']."""

    @property
    def widened(self) -> int:
        """C' / C: how many times as wide as a patch a token is."""
        return 1

    def tokens(self, rows: int, columns: int) -> int:
        """How many there are of so many patches. Raises ValueError, what they do not do, for those that are no whole
        squares."""
        if min(rows, columns) < self.side or rows % self.side or columns % self.side:
            raise ValueError(f"{self.verb} {self.side} x {self.side}")
        height, width = self.grid(rows, columns)
        return height * width

    def cut(self, x: "Tensor", rows: int, columns: int) -> "Tensor":
        """[B, N, C] of patches in a grid -> [B, R, height, S, width, C]."""
        height, width = self.grid(rows, columns)
        return x.reshape(x.shape[0], height, rows // height, width, columns // width, -1)


class Pooled(Squares):
    """`side` x `side` tokens, each the mean over its square (Gemma 3)."""

    verb = "pool to"

    def grid(self, rows: int, columns: int) -> tuple[int, int]:
        """See `Squares`."""
        return self.side, self.side

    def token(self, squares: "Tensor") -> "Tensor":
        """See `Squares`."""
        return squares.mean((2, 4))


class Shuffled(Squares):
    """Tokens of `side` x `side` patches, whose states stand one behind the other, row by row: what is called pixel
    shuffle (InternVL, Idefics3)."""

    verb = "part into squares of"

    def grid(self, rows: int, columns: int) -> tuple[int, int]:
        """See `Squares`."""
        return rows // self.side, columns // self.side

    def token(self, squares: "Tensor") -> "Tensor":
        """See `Squares`."""
        return squares.transpose(2, 3).flatten(3)

    @property
    def widened(self) -> int:
        """See `Squares`."""
        return self.side * self.side
